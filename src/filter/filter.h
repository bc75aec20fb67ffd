/* Filters: programs beside the server that may judge and change a message before it is accepted.
 * Three kinds are known: milters (filter/milter.h), clamd (filter/clamd.h) and HTTP hooks
 * (filter/hook.h).  This header has what they have in common: the facts they are told, the result
 * they give, and the contract with `out`, which speaks to the first two.
 *
 *     core                                          out
 *     FILTER_ASK  FRESH + session, recipients  -->  connects, tells what came so far
 *                                              <--  FILTER_ANSWER  result of the last recipient
 *     FILTER_ASK  END + fd of the message      -->  tells the message
 *                                              <--  FILTER_ANSWER  result, and changes; the end
 *     FILTER_ASK  CLOSE                        -->  hangs up
 *                                              <--  FILTER_ANSWER  (nothing)
 *
 * Such a conversation has a number of core's, apart from the ids of questions.  A number that out
 * does not know (any more: it was restarted) is answered FILTER_LOST; core then may tell everything
 * again.  A conversation of which nobody asked anything for FILTER_IDLE ends. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "sys/sock.h"

enum { FILTER_ASK = 96, FILTER_ANSWER = 97 };
#define FILTER_IDLE (900 * USEC_SEC)

/* --- what a filter is told --- */
struct filter_session {
	span id;	    /* of the message */
	span hostname;	    /* ours */
	span daemon;	    /* "inbound" or "submission" */
	struct sockaddr_any peer;
	span peer_name;	    /* verified reverse name, or empty */
	span helo;
	span tls_version, cipher; /* empty: in clear */
	span auth_type, auth_user; /* empty: nobody logged in */
	span sender;	    /* reverse-path without brackets; empty: <> */
	uint64_t size;	    /* SIZE of MAIL, 0: not told */
	bool smtputf8, body_8bit;
};

/* --- what it answers --- */
enum filter_action {
	FILTER_CONTINUE, /* nothing against it */
	FILTER_ACCEPT,	 /* and this filter wants to hear no more of the message */
	FILTER_REJECT,
	FILTER_TEMPFAIL,
	FILTER_DISCARD, /* say 250, and keep nothing */
	FILTER_FAILED,	/* it did not answer, or not what it should; `text` says why */
	FILTER_LOST	/* no such conversation */
};
enum filter_edit_kind {
	FILTER_ADD_HEADER,    /* below all others */
	FILTER_INSERT_HEADER, /* INDEX: its place then, from 1; 0: at the top, too */
	FILTER_CHANGE_HEADER, /* INDEX: which one of that name, from 1; none: added.  No value: deleted */
	FILTER_CHANGE_FROM,   /* VALUE: address in brackets or without; "<>" */
	FILTER_ADD_RCPT,
	FILTER_DELETE_RCPT,
	FILTER_EDIT_KINDS
};
struct filter_edit {
	enum filter_edit_kind kind;
	uint32_t index;
	span name, value; /* a value is what stands behind "Name:", lines end in CRLF within it */
};
#define FILTER_EDITS_MAX      500
#define FILTER_EDIT_BYTES_MAX (48u * 1024) /* names and values of one result */
#define FILTER_TEXT_MAX	      400

struct filter_result {
	enum filter_action action;
	unsigned code;	/* REJECT, TEMPFAIL: SMTP reply; 0: the caller's choice */
	span enhanced;	/* "5.7.1", or empty */
	span text;	/* one harmless line, or empty */
	bool quarantine; /* accept, but hold it in the queue */
	span quarantine_text;
	struct filter_edit *edits;
	size_t n_edits;
	bool new_body; /* its bytes follow the message in the fd of END */
	uint64_t new_body_size;
};

/* --- the contract --- */
enum filter_wire_kind { FILTER_WIRE_MILTER, FILTER_WIRE_CLAMD, FILTER_WIRE_KINDS };
enum { FILTER_FRESH = 1, FILTER_END = 2, FILTER_CLOSE = 4 };

struct filter_ask {
	uint64_t conversation;
	unsigned flags;
	enum filter_wire_kind kind;
	struct sockaddr_any to;
	usec timeout, timeout_end; /* for each answer of the filter; for the last one */
	struct filter_session session; /* FRESH */
	span *rcpts;		       /* those not told yet, without brackets */
	size_t n_rcpts;
	/* END: the message carries an fd that holds the message from 0 and may be written behind it */
	uint64_t size, header_size, new_body_max;
};
/* put: ERR_TOOBIG; get: ERR_PROTO; spans point into the payload, arrays into MEM. */
int filter_ask_put(struct buf *b, const struct filter_ask *a);
int filter_ask_get(span payload, struct arena *mem, struct filter_ask *ret);
int filter_result_put(struct buf *b, const struct filter_result *r);
int filter_result_get(span payload, struct arena *mem, struct filter_result *ret);

/* An SMTP reply as filters write it: "550 5.7.1 text", several lines ("550-...") joined; the enhanced
 * code is optional.  Sets action, code, enhanced, text; ERR_SYNTAX if it is no 4xx or 5xx.  Pure. */
int filter_reply_parse(span text, struct arena *mem, struct filter_result *ret);
/* Can TEXT be an address: no control characters?  (What it means is found out in core.) */
bool filter_address_ok(span text);
/* One harmless line of TEXT: printable ASCII, at most FILTER_TEXT_MAX bytes. */
span filter_line(span text, struct arena *mem);
