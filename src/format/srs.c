#include "format/srs.h"

#define HASH	  6 /* characters */
#define LOCAL_MAX 64
#define DAYS	  1024

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* "SRS0" or "SRS1" (TAG) and one of its separators. */
static bool starts(span local, char tag)
{
	return local.n > 5 && span_istarts(local, SPAN("SRS")) && local.p[3] == tag &&
	       (local.p[4] == '=' || local.p[4] == '+' || local.p[4] == '-');
}

bool srs_is(span local)
{
	return starts(local, '0') || starts(local, '1');
}

static void hash(const struct srs_keys *k, unsigned key, span what, struct arena *mem,
		 char ret[HASH])
{
	char *lower = arena_alloc(mem, what.n + 1);
	uint8_t mac[32];

	for (size_t i = 0; i < what.n; i++)
		lower[i] = what.p[i] >= 'A' && what.p[i] <= 'Z' ? (char)(what.p[i] + ('a' - 'A'))
								: what.p[i];
	k->mac(k->arg, key, span_of(lower, what.n), mac);
	uint64_t bits = 0;
	for (size_t i = 0; i < 8; i++)
		bits = bits << 8 | mac[i];
	for (size_t i = 0; i < HASH; i++)
		ret[i] = base32[bits >> (64 - 5 * (i + 1)) & 31];
}

static bool hash_fits(const struct srs_keys *k, span said, span what, struct arena *mem)
{
	char want[HASH];

	for (unsigned key = 0; said.n == HASH && key < k->n; key++) {
		unsigned differ = 0;

		hash(k, key, what, mem, want);
		for (size_t i = 0; i < HASH; i++) {
			char c = said.p[i];

			differ |= (unsigned char)((c >= 'a' && c <= 'z' ? c - ('a' - 'A') : c) ^
						  want[i]);
		}
		if (!differ)
			return true;
	}
	return false;
}

/* "SRSx=HHHHHH=WHAT" at DOMAIN. */
static enum srs_result sign(const struct srs_keys *k, const char *tag, span what, span domain,
			    bool utf8, struct arena *mem, struct address *ret)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(LOCAL_MAX);
	char h[HASH];

	hash(k, 0, what, mem, h);
	buf_put_str(&b, tag);
	buf_put(&b, h, HASH);
	buf_put_char(&b, '=');
	if (buf_put_span(&b, what) < 0)
		return SRS_TOO_LONG;
	*ret = (struct address){ .local = arena_span(mem, buf_span(&b)),
				 .domain = arena_span(mem, domain),
				 .utf8 = utf8 };
	return SRS_OK;
}

static unsigned today(usec now)
{
	return (unsigned)((uint64_t)now / (86400 * (uint64_t)USEC_SEC) % DAYS);
}

/* Takes "HASH=" off *REST. */
static bool take(span *rest, span *ret)
{
	*ret = span_cut(rest, '=');
	return rest->p != NULL;
}

enum srs_result srs_forward(const struct srs_keys *k, const struct address *sender, span domain,
			    usec now, struct arena *mem, struct address *ret)
{
	_cleanup_(buf_donep) struct buf what = BUF_INIT(1024);
	span rest = sender->local, ignored;
	unsigned day = today(now);

	if (starts(rest, '1')) {
		rest = span_from(rest, 5);
		if (take(&rest, &ignored) && rest.n)
			return sign(k, "SRS1=", rest, domain, sender->utf8, mem, ret);
	}
	if (starts(sender->local, '0')) {
		buf_put_span(&what, sender->domain);
		buf_put_char(&what, '=');
		buf_put_span(&what, span_from(sender->local, 4));
		return sign(k, "SRS1=", buf_span(&what), domain, sender->utf8, mem, ret);
	}
	buf_put_char(&what, base32[day >> 5]);
	buf_put_char(&what, base32[day & 31]);
	buf_put_char(&what, '=');
	buf_put_span(&what, sender->domain);
	buf_put_char(&what, '=');
	buf_put_span(&what, sender->local);
	return sign(k, "SRS0=", buf_span(&what), domain, sender->utf8, mem, ret);
}

static int digit(char c)
{
	if (c >= 'a' && c <= 'z')
		c = (char)(c - ('a' - 'A'));
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

/* A day ahead is a clock's fault. */
static bool fresh(span stamp, usec now)
{
	int high = stamp.n == 2 ? digit(stamp.p[0]) : -1;
	int low = stamp.n == 2 ? digit(stamp.p[1]) : -1;

	if (high < 0 || low < 0)
		return false;
	return (today(now) + 1 + DAYS - (unsigned)(high << 5 | low)) % DAYS <= SRS_DAYS + 1;
}

/* The address, if it is one that a path can have; a local part may be "" (RFC 5321 4.1.2). */
static enum srs_result give(span local, span domain, bool utf8, struct arena *mem,
			    struct address *ret)
{
	bool literal = domain.n && domain.p[0] == '[';

	if (local.n > LOCAL_MAX || (!literal && !domain_valid(domain, true)))
		return SRS_FORGED;
	*ret = (struct address){ .local = arena_span(mem, local),
				 .domain = arena_span(mem, domain),
				 .utf8 = utf8 };
	return SRS_OK;
}

enum srs_result srs_reverse(const struct srs_keys *k, const struct address *a, usec now,
			    struct arena *mem, struct address *ret)
{
	span rest, said, stamp, domain, what;

	if (!srs_is(a->local))
		return SRS_NONE;
	rest = span_from(a->local, 5);
	if (!take(&rest, &said))
		return SRS_FORGED;
	what = rest;
	if (!hash_fits(k, said, what, mem))
		return SRS_FORGED;
	if (starts(a->local, '1')) {
		_cleanup_(buf_donep) struct buf first = BUF_INIT(2 * LOCAL_MAX);

		if (!take(&rest, &domain) || !rest.n)
			return SRS_FORGED;
		buf_put_str(&first, "SRS0");
		buf_put_span(&first, rest);
		return give(buf_span(&first), domain, a->utf8, mem, ret);
	}
	if (!take(&rest, &stamp) || !take(&rest, &domain))
		return SRS_FORGED;
	return fresh(stamp, now) ? give(rest, domain, a->utf8, mem, ret) : SRS_EXPIRED;
}
