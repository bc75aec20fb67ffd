/* The SMTP and LMTP client as a pure protocol engine (RFC 5321, 2033, 2920, 3030, 3207, 3461, 4954,
 * 9422): bytes of the peer in, commands and two results out.  No socket, no clock.  The result does
 * not depend on how the peer's bytes are cut.
 *
 *   new -> TALKS .. [STARTTLS -> relay_client_tls -> TALKS ..] [AUTH ..] -> PARKED (opened) | DEAD
 *   PARKED -> relay_client_send -> TALKS .. BODY .. TALKS -> PARKED (sent) | DEAD
 *
 * What a hostile peer can do is bounded: a reply has at most 100 lines and 16 KiB, an unasked one
 * ends the connection, and so does one before the end of the message; what it says in clear behind the 220 of STARTTLS is dropped. */
#pragma once

#include "relay/wire.h"

enum relay_client_state {
	RELAY_CLIENT_TALKS,    /* a reply is awaited */
	RELAY_CLIENT_STARTTLS, /* shake hands (once OUT has left), then relay_client_tls() */
	RELAY_CLIENT_BODY,     /* wants relay_client_body() pieces, then relay_client_body_end() */
	RELAY_CLIENT_PARKED,   /* relay_client_send() or relay_client_quit() */
	RELAY_CLIENT_DEAD,     /* over: nothing more is said or heard */
};

struct relay_client;
/* O is copied.  With O->implicit_tls relay_client_tls() must come before the first byte. */
struct relay_client *relay_client_new(const struct relay_open *o);
void relay_client_free(struct relay_client *c); /* NULL is fine */

enum relay_client_state relay_client_state(const struct relay_client *c);
/* Bytes for the peer; the caller consumes from its front what has left.  An answer to a message whose end is still
 * here came too early. */
struct buf *relay_client_out(struct relay_client *c);
/* Bytes of the peer. */
void relay_client_feed(struct relay_client *c, span in);
/* The handshake is done: everything the peer said before is forgotten (RFC 3207 4.2). */
void relay_client_tls(struct relay_client *c, bool verified, span tls_text);
/* The connection ended as the caller saw it (end of file, time-out, TLS failure); WHY is for
 * people. */
void relay_client_fail(struct relay_client *c, enum relay_fail fail, span why);
/* Seconds the peer has for its present step (RFC 5321 4.5.3.2), counted from the last change of
 * relay_client_progress(). */
unsigned relay_client_patience(const struct relay_client *c);
uint64_t relay_client_progress(const struct relay_client *c);

/* Once PARKED or DEAD after opening; lives as long as C. */
const struct relay_opened *relay_client_opened(const struct relay_client *c);

/* PARKED only.  S is copied except for its body, which comes by relay_client_body(). */
void relay_client_send(struct relay_client *c, const struct relay_send *s);
/* Body bytes: line ends become CRLF (a bare CR or LF never leaves); for DATA leading dots are doubled
 * (RFC 5321 4.5.2), for BDAT they are gathered into chunks of 256 KiB.  At most 64 KiB a call, and only while OUT holds less than 256 KiB. */
void relay_client_body(struct relay_client *c, span piece);
void relay_client_body_end(struct relay_client *c);
/* Once PARKED or DEAD after relay_client_send(); lives until the next one. */
const struct relay_sent *relay_client_sent(const struct relay_client *c);

/* Says QUIT if the protocol allows it now; DEAD once it is answered. */
void relay_client_quit(struct relay_client *c);
