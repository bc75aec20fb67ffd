#include "format/proxy.h"

#include <arpa/inet.h>

static const span v1 = { "PROXY ", 6 };
static const span v2 = { "\r\n\r\n\0\r\nQUIT\n", 12 };

enum {
	V1_MIN = 15,  /* "PROXY UNKNOWN\r\n" */
	V1_MAX = 107, /* section 2.1 */
	V2_FIXED = 16,
	V2_TELLING = 5, /* with its NUL; before that it is a client's empty lines */
	V2_LOCAL = 0x20,
	V2_PROXY = 0x21,
	IPV4_ADDRESSES = 12,
	IPV6_ADDRESSES = 36,
	UNIX_ADDRESSES = 216,
};

/* ------------------------------------------------------------------ version 1: a line of text */

static bool v1_port(span text, uint16_t *ret)
{
	uint64_t v;
	if ((text.n > 1 && text.p[0] == '0') || !span_u64(text, 65535, &v))
		return false;
	*ret = (uint16_t)v;
	return true;
}

static bool v1_address(span text, bool ipv6, uint8_t ret[16])
{
	char z[INET6_ADDRSTRLEN] = "";
	if (text.n >= sizeof(z) || memchr(text.p, 0, text.n))
		return false;
	memcpy(z, text.p, text.n);
	return inet_pton(ipv6 ? AF_INET6 : AF_INET, z, ret) == 1;
}

/* LINE without CRLF. */
static bool v1_line(span line, struct proxy_header *ret)
{
	span rest = span_from(line, v1.n), family = span_cut(&rest, ' ');
	*ret = (struct proxy_header){ .ipv6 = span_eq_str(family, "TCP6") };
	if (span_eq_str(family, "UNKNOWN"))
		return true; /* the rest is to be ignored */
	if (!ret->ipv6 && !span_eq_str(family, "TCP4"))
		return false;
	span source = span_cut(&rest, ' '), target = span_cut(&rest, ' ');
	span source_port = span_cut(&rest, ' '), target_port = span_cut(&rest, ' ');
	ret->known = true;
	return !rest.p && source_port.p && target_port.p &&
	       v1_address(source, ret->ipv6, ret->source) &&
	       v1_address(target, ret->ipv6, ret->target) &&
	       v1_port(source_port, &ret->source_port) && v1_port(target_port, &ret->target_port);
}

static enum proxy_step v1_parse(span in, size_t *ret_n, struct proxy_header *ret)
{
	span line = span_sub(in, 0, V1_MAX);
	size_t end = span_find(line, '\n');
	if (end == SPAN_NPOS) {
		*ret_n = in.n < V1_MIN ? V1_MIN - in.n : 1;
		return in.n < V1_MAX ? PROXY_MORE : PROXY_BAD;
	}
	*ret_n = end + 1;
	return end > v1.n && in.p[end - 1] == '\r' && v1_line(span_sub(in, 0, end - 1), ret)
		       ? PROXY_DONE
		       : PROXY_BAD;
}

/* ------------------------------------------------------------------ version 2: binary */

static size_t be16(const char *p)
{
	return (size_t)(uint8_t)p[0] << 8 | (uint8_t)p[1];
}

/* Type, length, value to the very end. */
static bool v2_tlvs(span rest)
{
	while (rest.n > 0) {
		if (rest.n < 3 || be16(rest.p + 1) > rest.n - 3)
			return false;
		rest = span_from(rest, 3 + be16(rest.p + 1));
	}
	return true;
}

static void v2_addresses(span block, size_t size, struct proxy_header *ret)
{
	memcpy(ret->source, block.p, size);
	memcpy(ret->target, block.p + size, size);
	ret->source_port = (uint16_t)be16(block.p + 2 * size);
	ret->target_port = (uint16_t)be16(block.p + 2 * size + 2);
	ret->ipv6 = size == 16;
	ret->known = true;
}

/* BLOCK is all that follows the fixed part. */
static bool v2_block(unsigned family, span block, struct proxy_header *ret)
{
	/* Address family and transport, octets of the addresses; a datagram is nothing we could
	 * have got. */
	static const struct {
		uint8_t family;
		size_t size;
	} table[] = { { 0x00, 0 },
		      { 0x11, IPV4_ADDRESSES },
		      { 0x21, IPV6_ADDRESSES },
		      { 0x31, UNIX_ADDRESSES } };
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (table[i].family != family)
			continue;
		if (block.n < table[i].size || !v2_tlvs(span_from(block, table[i].size)))
			return false;
		if (family == 0x11)
			v2_addresses(block, 4, ret);
		if (family == 0x21)
			v2_addresses(block, 16, ret);
		return true;
	}
	return false;
}

static enum proxy_step v2_parse(span in, size_t *ret_n, struct proxy_header *ret)
{
	*ret_n = V2_FIXED - MIN(in.n, (size_t)V2_FIXED);
	if (in.n < V2_FIXED)
		return PROXY_MORE;
	unsigned command = (uint8_t)in.p[12], family = (uint8_t)in.p[13];
	size_t n = V2_FIXED + be16(in.p + 14);
	if (n > PROXY_MAX || (command != V2_LOCAL && command != V2_PROXY))
		return PROXY_BAD;
	*ret_n = n - MIN(in.n, n);
	if (in.n < n)
		return PROXY_MORE;
	*ret_n = n;
	*ret = (struct proxy_header){ 0 };
	/* LOCAL: whatever it holds is not for us (a health check of the balancer itself). */
	if (command == V2_LOCAL || v2_block(family, span_sub(in, V2_FIXED, n - V2_FIXED), ret))
		return PROXY_DONE;
	return PROXY_BAD;
}

/* ------------------------------------------------------------------ both */

static enum proxy_step begins_with(span in, span what)
{
	if (!span_eq(span_sub(in, 0, what.n), span_sub(what, 0, in.n)))
		return PROXY_BAD;
	return in.n < what.n ? PROXY_MORE : PROXY_DONE;
}

enum proxy_step proxy_begins(span in)
{
	enum proxy_step first = begins_with(in, v1);
	if (first != PROXY_BAD)
		return first;
	return in.n < V2_TELLING ? PROXY_BAD : begins_with(in, v2);
}

enum proxy_step proxy_parse(span in, size_t *ret_n, struct proxy_header *ret)
{
	*ret_n = V1_MIN; /* the shorter of both */
	if (in.n == 0)
		return PROXY_MORE;
	if (begins_with(in, v1) != PROXY_BAD)
		return v1_parse(in, ret_n, ret);
	if (begins_with(in, v2) != PROXY_BAD)
		return v2_parse(in, ret_n, ret);
	return PROXY_BAD;
}
