/* The attributes of XCLIENT: what a trusted proxy says of the client it speaks for (Postfix's
 * XCLIENT_README).  Pure. */
#pragma once

#include "base/arena.h"
#include "sys/sock.h"

#define SMTP_XCLIENT_ATTRIBUTES "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"

/* Values are decoded, in the arena.  An attribute that was said to be unavailable is named and empty. */
struct smtp_xclient {
	bool has_name;
	span name, login;
	char ip[SOCK_TEXT]; /* ADDR; empty: not said or unavailable */
	uint16_t port;	    /* 0: not said */
};
/* "NAME=VALUE NAME=VALUE ..."; false: not that, an attribute that is not known, or a value that cannot be. */
bool smtp_xclient_parse(span args, struct arena *mem, struct smtp_xclient *ret);
