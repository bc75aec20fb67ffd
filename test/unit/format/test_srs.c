/* SRS: what a forwarder writes leads back, and nothing else does. */
#include "support.h"

#include <ctype.h>

#include "format/srs.h"

#define DAY (86400 * USEC_SEC)

static struct arena mem;

/* Not a MAC to trust: enough to tell keys and texts apart. */
static void mac(void *arg, unsigned key, span in, uint8_t ret[32])
{
	const uint64_t *seed = arg;
	uint64_t h = seed[key];

	for (size_t i = 0; i < in.n; i++)
		h = (h ^ (uint8_t)in.p[i]) * UINT64_C(1099511628211);
	for (size_t i = 0; i < 32; i++, h = h * UINT64_C(6364136223846793005) + 1)
		ret[i] = (uint8_t)(h >> 56);
}

static uint64_t seeds[] = { 11, 22 };
static const struct srs_keys keys = { mac, seeds, 1 };

static struct address addr(const char *text)
{
	struct address a;

	assert_int_equal(address_parse(span_str(text), ADDRESS_ALLOW_UTF8, &mem, &a), ADDRESS_OK);
	return a;
}

static const char *text(const struct address *a)
{
	return address_text(a, &mem).p;
}

static const char *forward(const char *sender, usec now)
{
	struct address a = addr(sender), out;

	assert_int_equal(srs_forward(&keys, &a, SPAN("ours.test"), now, &mem, &out), SRS_OK);
	return text(&out);
}

static enum srs_result reverse(const char *rcpt, usec now, const char *want)
{
	struct address a = addr(rcpt), out = { 0 };
	enum srs_result r = srs_reverse(&keys, &a, now, &mem, &out);

	if (want && r == SRS_OK)
		assert_string_equal(text(&out), want);
	return r;
}

static void there_and_back(void **state)
{
	static const char *const senders[] = {
		"ann@far.example",     "a@b.test",
		"a=b=c@far.example",   "Big.Case@far.example",
		"\"john doe\"@x.test", "bounce+x=y.test@list.example"
	};

	for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
		const char *out = forward(senders[i], 1000 * DAY);

		assert_non_null(strstr(out, "SRS0="));
		assert_non_null(strstr(out, "@ours.test"));
		assert_int_equal(reverse(out, 1000 * DAY, senders[i]), SRS_OK);
	}
}

/* The second forwarder names the first, the third leaves the second out; no local part grows. */
static void chain(void **state)
{
	const char *hop1 = "SRS0=ABCDEF=XY=far.example=ann@hop1.test";
	const char *hop2 = forward(hop1, 0);

	assert_non_null(strstr(hop2, "SRS1="));
	assert_non_null(strstr(hop2, "=hop1.test==ABCDEF=XY=far.example=ann@ours.test"));
	assert_int_equal(reverse(hop2, 0, hop1), SRS_OK);
	const char *hop3 = forward("SRS1=QQQQQQ=hop1.test==ABCDEF=XY=far.example=ann@hop2.test", 0);
	assert_int_equal(reverse(hop3, 0, hop1), SRS_OK);
	assert_null(strstr(hop3, "hop2"));
	/* Another's separator comes back as it was. */
	assert_int_equal(reverse(forward("srs0+abc=de=x.test=ann@hop1.test", 0), 0,
				 "SRS0+abc=de=x.test=ann@hop1.test"),
			 SRS_OK);
}

static void hosts_change_case(void **state)
{
	char *out = xstrdup(forward("Ann@far.example", 0));

	for (char *p = out; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	assert_int_equal(reverse(out, 0, "ann@far.example"), SRS_OK);
	free(out);
}

static void forged(void **state)
{
	char *out = xstrdup(forward("ann@far.example", 0));

	for (size_t i = 5; out[i] != '@'; i++) { /* each character of hash, stamp, domain, local */
		char was = out[i];

		out[i] = was == 'q' ? 'r' : 'q';
		if (was != 'Q')
			assert_int_equal(reverse(out, 0, NULL), SRS_FORGED);
		out[i] = was;
	}
	free(out);
	assert_int_equal(reverse("SRS0=ann@ours.test", 0, NULL), SRS_FORGED);
	assert_int_equal(reverse("SRS0=AAAAAA=AA=victim.test=ann@ours.test", 0, NULL), SRS_FORGED);
	assert_int_equal(reverse("SRS1=AAAAAA=victim.test==x@ours.test", 0, NULL), SRS_FORGED);
	assert_int_equal(reverse("SRS0@ours.test", 0, NULL), SRS_NONE);
	assert_int_equal(reverse("SRS0x=a@ours.test", 0, NULL), SRS_NONE);
	assert_int_equal(reverse("srs@ours.test", 0, NULL), SRS_NONE);
}

/* Valid for SRS_DAYS, also where the day wraps, and not before it was made. */
static void time_runs_out(void **state)
{
	for (int start = 0; start < 3000; start += 341) {
		const char *out = forward("ann@far.example", start * DAY);

		assert_int_equal(reverse(out, (start + SRS_DAYS) * DAY, NULL), SRS_OK);
		assert_int_equal(reverse(out, (start + SRS_DAYS + 1) * DAY, NULL), SRS_EXPIRED);
		if (start)
			assert_int_equal(reverse(out, (start - 1) * DAY, NULL), SRS_OK);
		if (start > 1)
			assert_int_equal(reverse(out, (start - 2) * DAY, NULL), SRS_EXPIRED);
	}
}

static void rotation(void **state)
{
	struct address a = addr(forward("ann@far.example", 0)), out;
	uint64_t turned[] = { 33, 11 };
	struct srs_keys both = { mac, turned, 2 }, fresh = { mac, turned, 1 };

	assert_int_equal(srs_reverse(&both, &a, 0, &mem, &out), SRS_OK);
	assert_int_equal(srs_reverse(&fresh, &a, 0, &mem, &out), SRS_FORGED);
}

static void long_ones(void **state)
{
	struct address a = addr("a123456789b123456789c123456789d12345678@far.example"), out;

	assert_int_equal(srs_forward(&keys, &a, SPAN("ours.test"), 0, &mem, &out), SRS_TOO_LONG);
	a.local.n -= 3; /* 5 + 6 + 1 + 2 + 1 + 11 + 1 + 37 = 64 */
	a.local.n++;
	assert_int_equal(srs_forward(&keys, &a, SPAN("ours.test"), 0, &mem, &out), SRS_OK);
	assert_int_equal(out.local.n, 64);
}

static int done(void **state)
{
	arena_done(&mem);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_and_back),    cmocka_unit_test(chain),
		cmocka_unit_test(hosts_change_case), cmocka_unit_test(forged),
		cmocka_unit_test(time_runs_out),     cmocka_unit_test(rotation),
		cmocka_unit_test(long_ones),
	};
	return cmocka_run_group_tests_name("format: srs", tests, NULL, done);
}
