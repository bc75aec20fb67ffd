/* Addresses: the envelope's (RFC 5321 4.1.2, RFC 6531) and the header's (RFC 5322 3.4). Pure. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

/* An envelope address.  LOCAL is unquoted ("john doe" not "\"john doe\""); DOMAIN is lower-cased ASCII
 * (A-labels) or, with UTF8 set, what the peer sent in lower case; "[...]" literals keep their brackets.
 * The null reverse-path <> has both empty. */
struct address {
	span local;
	span domain;
	bool utf8; /* non-ASCII somewhere: needs SMTPUTF8 */
};

enum address_error {
	ADDRESS_OK,
	ADDRESS_SYNTAX,     /* 5.1.3 / 5.1.7 */
	ADDRESS_TOO_LONG,   /* local > 64, domain > 255, path > 256 octets (RFC 5321 4.5.3.1) */
	ADDRESS_NO_DOMAIN,  /* <user> without @, only "postmaster" may */
	ADDRESS_UTF8,       /* non-ASCII although ALLOW_UTF8 is false; 5.6.7 */
	ADDRESS_LITERAL,    /* a malformed address literal */
};
enum { ADDRESS_ALLOW_UTF8 = 1, ADDRESS_ALLOW_NULL = 2, ADDRESS_ALLOW_BARE_POSTMASTER = 4 };

/* Parses "<...>" at the start of IN (path with optional source route, which is dropped; RFC 5321
 * appendix C); *RET_USED is what was read.  Results are copied into MEM. */
enum address_error address_parse_path(span in, unsigned flags, struct arena *mem, struct address *ret,
				      size_t *ret_used);
/* Parses a bare addr-spec that must fill IN ("user@domain"; config, CLI, directory). */
enum address_error address_parse(span in, unsigned flags, struct arena *mem, struct address *ret);
/* Text form with the local part quoted where RFC 5321 needs it; no angle brackets. */
int address_put(struct buf *b, const struct address *a);
span address_text(const struct address *a, struct arena *mem);
bool address_is_null(const struct address *a);
/* Is DOMAIN a syntactically valid host/domain name (letters, digits, hyphen, dots; labels 1..63)? */
bool domain_valid(span domain, bool allow_utf8);

/* --- header addresses: From, To, Cc, ... --- */
struct mailbox_address {
	span display; /* phrase, unquoted, RFC 2047 words still encoded; may be empty */
	span local;   /* unquoted; RFC 2047 is never decoded here */
	span domain;
	span route;   /* obs-route, for IMAP's ENVELOPE; usually empty */
	enum { MAILBOX_ADDR, MAILBOX_GROUP_START, MAILBOX_GROUP_END } kind; /* as IMAP lists groups */
};
/* Parses an address-list (value of a header field, folded or not), leniently: what cannot be parsed
 * is skipped to the next comma and counted in *RET_BAD (may be NULL).  A word without "@" is an entry
 * with an empty domain.  Groups always balance.  Linear; at most MAX entries. */
size_t address_list_parse(span value, struct arena *mem, struct mailbox_address *ret, size_t max, size_t *ret_bad);
