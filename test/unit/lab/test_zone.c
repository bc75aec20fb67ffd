/* The lab's signed zone: canonical order, answers, denial, truncation, and queries that are none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/codec.h"
#include "lab/zone_int.h"
#include "tls/hash.h"
#include "tls/tls.h"

#define NAME(lit) span_of(lit, sizeof(lit)) /* the literal's NUL is the root label */

static struct zone *made(void)
{
	struct zone *z = zone_new("test");

	assert_int_equal(zone_add(z, SPAN("mx.alpha.test"), SPAN("A"), SPAN("127.0.0.2")), 0);
	assert_int_equal(zone_add(z, SPAN("Alpha.Test."), SPAN("mx"), SPAN("10 mx.alpha.test")), 0);
	assert_int_equal(zone_add(z, SPAN("alpha.test"), SPAN("MX"), SPAN("5 b.alpha.test")), 0);
	assert_int_equal(zone_add(z, SPAN("www.test"), SPAN("CNAME"), SPAN("mx.alpha.test")), 0);
	assert_int_equal(zone_add(z, SPAN("broken.test"), SPAN("SERVFAIL"), SPAN_NULL), 0);
	assert_int_equal(zone_add(z, SPAN("silent.test"), SPAN("TIMEOUT"), SPAN_NULL), 0);
	for (int i = 0; i < 9; i++) {
		_cleanup_(buf_donep) struct buf text = BUF_INIT(300);

		for (int k = 0; k < 200; k++)
			buf_put_char(&text, (char)('a' + i));
		assert_int_equal(zone_add(z, SPAN("large.test"), SPAN("TXT"), buf_span(&text)), 0);
	}
	assert_int_equal(zone_sign(z, (usec)1700000000 * USEC_SEC), 0);
	return z;
}

/* --- a client's view of an answer --- */

struct record {
	span name, rdata;
	unsigned type;
};
struct answer {
	struct buf bytes;
	unsigned id, flags, rcode, counts[4];
	struct record records[40];
	size_t n;
};

static unsigned be16(span s, size_t at)
{
	assert_true(at + 2 <= s.n);
	return (unsigned)(unsigned char)s.p[at] << 8 | (unsigned char)s.p[at + 1];
}

static span name_at(span m, size_t *at)
{
	size_t start = *at;

	while (m.p[*at]) {
		assert_true((unsigned char)m.p[*at] < 64); /* nothing is compressed */
		*at += (size_t)(unsigned char)m.p[*at] + 1;
		assert_true(*at < m.n);
	}
	++*at;
	return span_sub(m, start, *at - start);
}

static void query(struct buf *b, span name, unsigned type, unsigned size, bool dnssec)
{
	zone_put16(b, 0x1234);
	zone_put16(b, 0x0100);
	zone_put16(b, 1);
	zone_put32(b, 0);
	zone_put16(b, size != 0);
	buf_put_span(b, name);
	zone_put16(b, type);
	zone_put16(b, 1);
	if (!size)
		return;
	buf_put_char(b, 0);
	zone_put16(b, RR_OPT);
	zone_put16(b, size);
	zone_put32(b, dnssec ? 0x8000 : 0);
	zone_put16(b, 0);
}

/* Asks and takes the answer apart; each byte must be accounted for. */
static void ask(const struct zone *z, span name, unsigned type, unsigned size, bool dnssec,
		size_t max, struct answer *a)
{
	_cleanup_(buf_donep) struct buf q = BUF_INIT(600);
	size_t at = 12;
	span m;

	query(&q, name, type, size, dnssec);
	*a = (struct answer){ .bytes = BUF_INIT(65535) };
	assert_true(zone_answer(z, buf_span(&q), max, &a->bytes));
	m = buf_span(&a->bytes);
	a->id = be16(m, 0);
	a->flags = be16(m, 2) & ~15u;
	a->rcode = be16(m, 2) & 15;
	for (int i = 0; i < 4; i++)
		a->counts[i] = be16(m, 4 + 2 * (size_t)i);
	assert_int_equal(a->counts[0], 1);
	assert_true(span_eq(name_at(m, &at), name));
	at += 4;
	for (unsigned i = 0; i < a->counts[1] + a->counts[2] + a->counts[3]; i++) {
		struct record *r = &a->records[a->n++];

		r->name = name_at(m, &at);
		r->type = be16(m, at);
		r->rdata = span_sub(m, at + 10, be16(m, at + 8));
		at += 10 + r->rdata.n;
	}
	assert_int_equal(at, m.n);
	assert_true(m.n <= max);
}

static const struct record *first(const struct answer *a, unsigned type)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->records[i].type == type)
			return &a->records[i];
	return NULL;
}

/* Does an NSEC of A cover NAME (RFC 4034 4.1.1; the last one wraps to the apex)? */
static bool covered(const struct answer *a, span name, span apex)
{
	for (size_t i = 0; i < a->n; i++) {
		size_t at = 0;
		span next;

		if (a->records[i].type != RR_NSEC)
			continue;
		next = name_at(a->records[i].rdata, &at);
		if (zone_name_cmp(a->records[i].name, name) < 0 &&
		    (zone_name_cmp(name, next) < 0 || span_eq(next, apex)))
			return true;
	}
	return false;
}

/* --- tests --- */

/* The example of RFC 4034 6.1. */
static void test_canonical_order(void **state)
{
	static const struct {
		const char *p;
		size_t n;
	} names[] = {
#define ROW(lit) { lit, sizeof(lit) }
		ROW("\7example"),	 ROW("\1a\7example"),	    ROW("\10yljkjljk\1a\7example"),
		ROW("\1z\1a\7example"),	 ROW("\4zabc\1a\7example"), ROW("\1z\7example"),
		ROW("\1\1\1z\7example"), ROW("\1*\1z\7example"),    ROW("\1\310\1z\7example"),
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t k = 0; k < ARRAY_LEN(names); k++) {
			int r = zone_name_cmp(span_of(names[i].p, names[i].n),
					      span_of(names[k].p, names[k].n));

			assert_int_equal((r > 0) - (r < 0), (i > k) - (i < k));
		}
	assert_int_equal(zone_labels(NAME("\1z\1a\7example")), 3);
	assert_int_equal(zone_labels(span_of("", 1)), 0);
	assert_true(span_eq(zone_parent(NAME("\1a\7example")), NAME("\7example")));
}

static void test_positive(void **state)
{
	struct zone *z = made();
	struct answer a;

	ask(z, NAME("\5alpha\4test"), RR_MX, 1232, true, 4096, &a);
	assert_int_equal(a.id, 0x1234);
	assert_int_equal(a.flags, 0x8500); /* QR AA RD */
	assert_int_equal(a.rcode, 0);
	assert_int_equal(a.counts[1], 3); /* two MX in canonical order and their signature */
	assert_int_equal(be16(a.records[0].rdata, 0), 5);
	assert_int_equal(be16(a.records[1].rdata, 0), 10);
	assert_true(span_eq(span_from(a.records[1].rdata, 2), NAME("\2mx\5alpha\4test")));
	assert_int_equal(a.records[2].type, RR_RRSIG);
	assert_int_equal(be16(a.records[2].rdata, 0), RR_MX);
	assert_int_equal(a.records[2].rdata.p[2], 13); /* algorithm */
	assert_int_equal(a.records[2].rdata.p[3], 2);  /* labels */
	assert_int_equal(be16(a.records[2].rdata, 16), z->key_tag);
	buf_done(&a.bytes);

	ask(z, NAME("\5alpha\4test"), RR_MX, 0, false, 4096, &a); /* without EDNS */
	assert_int_equal(a.counts[1], 2);
	assert_int_equal(a.counts[3], 0);
	buf_done(&a.bytes);

	ask(z, NAME("\3www\4test"), RR_A, 1232, false, 4096, &a);
	assert_int_equal(a.counts[1], 1);
	assert_int_equal(a.records[0].type, RR_CNAME);
	buf_done(&a.bytes);
	zone_free(z);
}

static void test_denial(void **state)
{
	struct zone *z = made();
	span apex = NAME("\4test");
	struct answer a;

	/* The name is not there: NSEC over it, and over the wildcard at its closest encloser. */
	ask(z, NAME("\4nope\5alpha\4test"), RR_A, 1232, true, 4096, &a);
	assert_int_equal(a.rcode, 3);
	assert_int_equal(a.counts[1], 0);
	assert_non_null(first(&a, RR_SOA));
	assert_true(covered(&a, NAME("\4nope\5alpha\4test"), apex));
	assert_true(covered(&a, NAME("\1*\5alpha\4test"), apex));
	buf_done(&a.bytes);

	ask(z, NAME("\4zzzz\4test"), RR_A, 1232, true, 4096, &a); /* behind the last name */
	assert_int_equal(a.rcode, 3);
	assert_true(covered(&a, NAME("\4zzzz\4test"), apex));
	assert_true(covered(&a, NAME("\1*\4test"), apex));
	buf_done(&a.bytes);

	/* The name is there, the type is not: its own NSEC, whose map says so. */
	ask(z, NAME("\2mx\5alpha\4test"), RR_AAAA, 1232, true, 4096, &a);
	assert_int_equal(a.rcode, 0);
	const struct record *nsec = first(&a, RR_NSEC);
	assert_non_null(nsec);
	assert_true(span_eq(nsec->name, NAME("\2mx\5alpha\4test")));
	size_t at = 0;
	name_at(nsec->rdata, &at);
	assert_int_equal(nsec->rdata.p[at], 0);
	assert_int_equal(nsec->rdata.p[at + 2] & 0x40, 0x40); /* A */
	assert_int_equal(nsec->rdata.p[at + 2 + RR_AAAA / 8] & (0x80 >> RR_AAAA % 8), 0);
	buf_done(&a.bytes);

	/* Without DO nothing is proved, only said. */
	ask(z, NAME("\4nope\4test"), RR_A, 0, false, 4096, &a);
	assert_int_equal(a.rcode, 3);
	assert_int_equal(a.n, 1);
	assert_int_equal(a.records[0].type, RR_SOA);
	buf_done(&a.bytes);
	zone_free(z);
}

/* The NSEC records make one ring over all names, in canonical order. */
static void test_chain(void **state)
{
	struct zone *z = made();
	const struct rrset *at = zone_find(z, z->origin, RR_NSEC);
	size_t n = 0, all = 0;

	for (size_t i = 0; i < z->n_sets; i++)
		all += z->sets[i].type == RR_NSEC;
	do {
		size_t end = 0;
		span next = name_at(at->first->bytes, &end);

		assert_true(zone_name_cmp(at->name, next) < 0 || span_eq(next, z->origin));
		at = zone_find(z, next, RR_NSEC);
		assert_non_null(at);
	} while (++n < all);
	assert_true(span_eq(at->name, z->origin));
	zone_free(z);
}

static void test_truncation(void **state)
{
	struct zone *z = made();
	struct answer a;

	ask(z, NAME("\5large\4test"), RR_TXT, 1232, false, 4096, &a);
	assert_int_equal(a.flags & 0x0200, 0x0200); /* TC */
	assert_int_equal(a.counts[1], 0);
	buf_done(&a.bytes);
	ask(z, NAME("\5large\4test"), RR_TXT, 0, false, 4096, &a); /* 512 without EDNS */
	assert_int_equal(a.flags & 0x0200, 0x0200);
	assert_true(a.bytes.n <= 512);
	buf_done(&a.bytes);
	ask(z, NAME("\5large\4test"), RR_TXT, 1232, true, 65535, &a); /* TCP */
	assert_int_equal(a.flags & 0x0200, 0);
	assert_int_equal(a.counts[1], 10);
	buf_done(&a.bytes);
	zone_free(z);
}

static void test_special(void **state)
{
	struct zone *z = made();
	_cleanup_(buf_donep) struct buf q = BUF_INIT(600), out = BUF_INIT(65535);
	struct answer a;

	ask(z, NAME("\6broken\4test"), RR_A, 1232, true, 4096, &a);
	assert_int_equal(a.rcode, 2);
	buf_done(&a.bytes);
	ask(z, NAME("\7example\3org"), RR_A, 1232, true, 4096, &a);
	assert_int_equal(a.rcode, 5);
	buf_done(&a.bytes);
	ask(z, span_of("", 1), RR_NS, 1232, true, 4096, &a); /* the root */
	assert_int_equal(a.rcode, 5);
	buf_done(&a.bytes);
	query(&q, NAME("\6silent\4test"), RR_A, 1232, true);
	assert_false(zone_answer(z, buf_span(&q), 4096, &out));
	/* Cut anywhere before the end of the question it is no query. */
	buf_reset(&q);
	query(&q, NAME("\2mx\5alpha\4test"), RR_A, 0, false);
	for (size_t n = 0; n < q.n; n++) {
		_cleanup_(freep) char *exact = xmalloc(n + 1);

		memcpy(exact, q.p, n);
		exact = xrealloc(exact, n ? n : 1); /* so that ASan sees a read past it */
		assert_false(zone_answer(z, span_of(exact, n), 4096, &out));
	}
	q.p[12] = (char)0xc0; /* a pointer in a question */
	assert_false(zone_answer(z, buf_span(&q), 4096, &out));
	q.p[12] = 2;
	q.p[2] |= (char)0x80; /* an answer */
	assert_false(zone_answer(z, buf_span(&q), 4096, &out));
	zone_free(z);
}

static void test_bad_records(void **state)
{
	struct zone *z = zone_new("test");
	struct err_info info = { 0 };

	assert_int_equal(zone_add(z, SPAN("a.test"), SPAN("A"), SPAN("1.2.3")), ERR_SYNTAX);
	assert_int_equal(zone_add(z, SPAN("a..test"), SPAN("A"), SPAN("1.2.3.4")), ERR_SYNTAX);
	assert_int_equal(zone_add(z, SPAN("a.test"), SPAN("MX"), SPAN("x mx.test")), ERR_SYNTAX);
	assert_int_equal(zone_add(z, SPAN("a.test"), SPAN("SRV"), SPAN("x")), ERR_UNSUPPORTED);
	assert_int_equal(zone_add_file(z,
				       SPAN("; no\n\n# no\na.test A 1.2.3.4\nb.test  AAAA  ::1\n"
					    "c.test TXT \"a b\"\nd.test TIMEOUT\n"),
				       &info),
			 0);
	assert_non_null(zone_find(z, NAME("\1b\4test"), RR_AAAA));
	assert_true(zone_add_file(z, SPAN("a.test A 1.2.3.4\nb.test A\n"), &info) < 0);
	assert_string_equal(info.text, "line 2: expected NAME TYPE DATA");
	zone_free(z);
}

/* The anchor is the DS of the zone's key (RFC 4034 5.1.4). */
static void test_anchor(void **state)
{
	struct zone *z = made();
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024), want = BUF_INIT(1024),
					tbs = BUF_INIT(1024);
	uint8_t digest[32];

	assert_int_equal(zone_anchor(z, &b), 0);
	buf_put_span(&tbs, NAME("\4test"));
	buf_put_span(&tbs, zone_find(z, z->origin, RR_DNSKEY)->first->bytes);
	sha256(buf_span(&tbs), digest);
	buf_printf(&want, "test. IN DS %u 13 2 ", z->key_tag);
	hex_encode(&want, span_of(digest, sizeof digest));
	buf_put_char(&want, '\n');
	assert_string_equal(buf_cstr(&b), buf_cstr(&want));
	zone_free(z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_canonical_order), cmocka_unit_test(test_positive),
		cmocka_unit_test(test_denial),		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_truncation),	cmocka_unit_test(test_special),
		cmocka_unit_test(test_bad_records),	cmocka_unit_test(test_anchor),
	};

	tls_init(NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
