#include "base/id.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford: no i l o u */

void random_bytes(void *p, size_t n)
{
	char *to = p;
	while (n) {
		ssize_t got = getrandom(to, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			abort(); /* no way to go on without randomness */
		to += got;
		n -= (size_t)got;
	}
}

uint64_t random_u64(void)
{
	uint64_t v;
	random_bytes(&v, sizeof(v));
	return v;
}

uint64_t random_below(uint64_t n)
{
	if (n == 0)
		return 0;
	/* Values under 2^64 mod n would make the low results more likely. */
	uint64_t skip = (0 - n) % n, v;
	do
		v = random_u64();
	while (v < skip);
	return v % n;
}

struct id id_new(void)
{
	struct id id;
	usec now = clock_wall();
	uint64_t ms = now > 0 ? (uint64_t)(now / USEC_MSEC) : 0;
	for (int i = 0; i < 6; i++)
		id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
	random_bytes(id.b + 6, 10);
	return id;
}

usec id_time(const struct id *id)
{
	uint64_t ms = 0;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id->b[i];
	return (usec)ms * USEC_MSEC;
}

/* The text is the 128-bit number in base 32, so its first digit carries three bits only. */
void id_format(const struct id *id, char ret[ID_TEXT])
{
	unsigned acc = 0, bits = 2; /* two zero bits in front make 130 = 26 * 5 */
	size_t at = 0;
	for (size_t i = 0; i < sizeof(id->b); i++) {
		acc = acc << 8 | id->b[i];
		bits += 8;
		while (bits >= 5) {
			bits -= 5;
			ret[at++] = alphabet[acc >> bits & 31];
		}
		acc &= 31;
	}
	assert(at == ID_TEXT - 1);
	ret[at] = '\0';
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c | 0x20);
	const char *at = c ? strchr(alphabet, c) : NULL;
	return at ? (int)(at - alphabet) : -1;
}

bool id_parse(span s, struct id *ret)
{
	if (s.n != ID_TEXT - 1 || digit_value(s.p[0]) > 7)
		return false;
	struct id id;
	unsigned acc = 0, bits = 0;
	size_t at = 0;
	for (size_t i = 0; i < s.n; i++) {
		int v = digit_value(s.p[i]);
		if (v < 0)
			return false;
		acc = acc << 5 | (unsigned)v;
		bits += i == 0 ? 3 : 5;
		if (bits >= 8) {
			bits -= 8;
			id.b[at++] = (uint8_t)(acc >> bits);
		}
		acc &= 0xff;
	}
	*ret = id;
	return true;
}

bool id_is_null(const struct id *id)
{
	static const struct id null;
	return id_eq(id, &null);
}
