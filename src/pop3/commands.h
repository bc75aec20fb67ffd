/* POP3's commands as data (RFC 1939, 2449, 2595, 5034).  Pure. */
#pragma once

#include "base/buf.h"
#include "sys/pool.h"

enum pop3_cmd {
	POP3_CAPA,
	POP3_QUIT,
	POP3_NOOP,
	POP3_STLS,
	POP3_USER,
	POP3_PASS,
	POP3_AUTH,
	POP3_STAT,
	POP3_LIST,
	POP3_UIDL,
	POP3_RETR,
	POP3_TOP,
	POP3_DELE,
	POP3_RSET,
	POP3_CMD_COUNT
};

enum { POP3_IN_AUTHORIZATION = 1, POP3_IN_TRANSACTION = 2 };
enum { POP3_FRONT = 1 /* the wire answers it before authentication */ };

/* Grammar, one letter for each argument: n message number, N optional one, c count of lines, t text
 * (the rest of the line, spaces included), m mechanism with optional initial response. */
struct pop3_command {
	enum pop3_cmd id;
	const char *name, *grammar;
	unsigned states, flags;
	enum lane lane;
};
extern const struct pop3_command pop3_commands[POP3_CMD_COUNT];

struct pop3_args {
	const struct pop3_command *cmd;
	uint32_t number; /* 0: not given */
	uint32_t lines;
	span text;    /* USER, PASS; mechanism */
	span initial; /* p NULL: none */
};
/* LINE with its CRLF.  False, with *RET_WHY (literal text): unknown command or bad arguments. */
bool pop3_parse(span line, struct pop3_args *ret, const char **ret_why);

/* The lines of a CAPA answer without the first one and the final dot. */
struct sasl_channel;
void pop3_capa_put(struct buf *b, const struct sasl_channel *c, bool tls_available, bool transaction);
