/* The table of IMAP commands: the protocol's rules as data, read by the wire (framing, answers
 * before authentication), the parser (grammar) and core (states, lanes). */
#pragma once

#include "base/buf.h"
#include "sys/pool.h"

enum imap_cmd {
	IMAP_CAPABILITY,
	IMAP_NOOP,
	IMAP_LOGOUT,
	IMAP_ID,
	IMAP_STARTTLS,
	IMAP_LOGIN,
	IMAP_AUTHENTICATE,
	IMAP_ENABLE,
	IMAP_SELECT,
	IMAP_EXAMINE,
	IMAP_CREATE,
	IMAP_DELETE,
	IMAP_RENAME,
	IMAP_SUBSCRIBE,
	IMAP_UNSUBSCRIBE,
	IMAP_LIST,
	IMAP_LSUB,
	IMAP_STATUS,
	IMAP_APPEND,
	IMAP_NAMESPACE,
	IMAP_IDLE,
	IMAP_CHECK,
	IMAP_CLOSE,
	IMAP_UNSELECT,
	IMAP_EXPUNGE,
	IMAP_SEARCH,
	IMAP_FETCH,
	IMAP_STORE,
	IMAP_COPY,
	IMAP_MOVE,
	IMAP_CMD_COUNT
};

/* In which states a command is allowed (RFC 3501 3). */
enum { IMAP_IN_NONAUTH = 1, IMAP_IN_AUTH = 2, IMAP_IN_SELECTED = 4 };

enum {
	IMAP_FRONT = 1, /* before authentication the wire answers it alone */
	IMAP_HOLDS_SEQS =
		2, /* no EXPUNGE response while it runs (RFC 3501 7.4.1), unless as UID command */
	IMAP_NEEDS_WRITE = 4, /* refused in a mailbox opened with EXAMINE */
	IMAP_HAS_UID = 8,     /* exists with the prefix UID */
};

/* Grammar: one letter for each argument, a space before each but the first of an empty list.
 *   m mailbox   a string into text   p list pattern(s) with options   s sequence set   S optional
 * set, of UIDs f fetch items   o store operation   k search program   t status items   i ID
 * parameters   e capability list n APPEND's flags, date and message   u optional (USE (...)) of
 * CREATE   r optional initial response */
struct imap_command {
	enum imap_cmd id;
	const char *name;
	const char *grammar;
	unsigned states, flags;
	enum lane lane;
};
extern const struct imap_command imap_commands[IMAP_CMD_COUNT];
const struct imap_command *imap_command_find(span name); /* NULL if there is none */

/* The capability list without the word CAPABILITY: "IMAP4rev1 ...". */
struct sasl_channel;
void imap_capability_put(struct buf *b, bool authenticated, const struct sasl_channel *c, bool tls_available);
