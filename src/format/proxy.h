/* The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): a load balancer says, before
 * the first byte of a connection, whose connection it is.  Pure.
 *
 * Strict: a header is one of the two forms to the letter or the connection is refused.  What follows
 * the addresses of version 2 (TLVs) must be well-formed and is ignored. */
#pragma once

#include "base/span.h"

#define PROXY_MAX 4096 /* octets of a header, TLVs included */

struct proxy_header {
	bool known; /* else nobody stands behind the connection (LOCAL, UNKNOWN, not TCP/IP): its own
		       addresses hold */
	bool ipv6;
	uint8_t source[16], target[16]; /* network order; IPv4 in the first four */
	uint16_t source_port, target_port;
};

enum proxy_step {
	PROXY_MORE, /* *RET_N: so many further octets belong to the header for certain (> 0) */
	PROXY_DONE, /* *RET_N: octets of the header; *RET is set */
	PROXY_BAD,
};
/* Reads the header at the beginning of IN. */
enum proxy_step proxy_parse(span in, size_t *ret_n, struct proxy_header *ret);

/* Does IN begin as a header does?  PROXY_DONE: yes; PROXY_MORE: so far; PROXY_BAD: no.  For peers
 * that have no right to send one. */
enum proxy_step proxy_begins(span in);
