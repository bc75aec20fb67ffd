#include "base/codec.h"
#include "trust/arc.h"
#include "zone.h"

struct bench {
	struct world w;
	struct sign_key *key;
};

static void bench_init(struct bench *t)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(64), zone = BUF_INIT(4096);

	assert_int_equal(sign_key_new_ed25519(&t->key), 0);
	sign_key_public(t->key, &raw);
	buf_put_str(&zone, "s._domainkey.relay.test. TXT \"k=ed25519; p=");
	base64_encode(&zone, buf_span(&raw));
	buf_put_str(&zone, "\"\n");
	world_init(&t->w, buf_cstr(&zone));
}

static void bench_done(struct bench *t)
{
	world_done(&t->w);
	sign_key_free(t->key);
}

static int sign(void *arg, const uint8_t digest[32], struct buf *sig)
{
	return sign_digest(arg, digest, sig);
}

static struct arc_verdict verify(struct bench *t, span text)
{
	struct arc_verdict once, rounds;
	struct message m;

	assert_int_equal(message_parse(text, &t->w.mem, &m), 0);
	assert_int_equal(arc_verify(&m, trust_zone_lookup(t->w.zone), &t->w.mem, &once), 0);
	while (arc_verify(&m, trust_answers_lookup(t->w.answers), &t->w.mem, &rounds) == ERR_AGAIN)
		world_round(&t->w);
	assert_int_equal(once.result, rounds.result);
	return once;
}

/* TEXT with one more set on top; or the error in *RET. */
static span seal(struct bench *t, span text, int *ret)
{
	const struct arc_seal_options o = { .domain = SPAN("relay.test"),
					    .selector = SPAN("s"),
					    .type = SIGN_ED25519,
					    .now = 1000,
					    .authserv_id = SPAN("relay.test"),
					    .sign = sign,
					    .arg = t->key };
	struct arc_verdict v = verify(t, text);
	struct buf b = BUF_INIT(1 << 20);

	*ret = arc_seal(text, &v, &o, &t->w.mem, &b);
	buf_put_span(&b, text);
	span s = arena_span(&t->w.mem, buf_span(&b));
	buf_done(&b);
	return s;
}

static span edit(struct bench *t, span text, const char *from, const char *to)
{
	size_t at = span_find_span(text, span_str(from));

	assert_true(at != SPAN_NPOS);
	return span_str(arena_printf(&t->w.mem, "%.*s%s%.*s", SPAN_FMT(span_sub(text, 0, at)), to,
				     SPAN_FMT(span_from(text, at + strlen(from)))));
}

static const char message[] =
	"Authentication-Results: relay.test; spf=pass smtp.mailfrom=a@b.test\r\n"
	"Authentication-Results: other.test; dkim=pass\r\n"
	"From: a@b.test\r\nSubject: x\r\n\r\nHello\r\n";

static void test_chain(void **state)
{
	struct bench t = { 0 };
	span text = span_str(message);
	int e;

	bench_init(&t);
	assert_int_equal(verify(&t, text).result, TRUST_NONE);
	for (unsigned i = 1; i <= ARC_SETS_MAX; i++) {
		text = seal(&t, text, &e);
		assert_int_equal(e, 0);
		if (i > 3 && i < ARC_SETS_MAX)
			continue;
		struct arc_verdict v = verify(&t, text);
		assert_int_equal(v.result, TRUST_PASS);
		assert_int_equal(v.instance, i);
		assert_span(v.domain, "relay.test");
	}
	seal(&t, text, &e);
	assert_int_equal(e, ERR_TOOBIG);
	bench_done(&t);
}

static void test_breaks(void **state)
{
	static const char *const edits[][2] = {
		{ "Subject: x", "Subject: y" },
		{ "Hello", "Hullo" },
		{ "cv=pass", "cv=none" },
		{ "i=2; relay", "i=3; relay" },
		{ "i=1; relay.test", "i=1; rel.test" },
		{ "ARC-Seal:", "X-Seal:" },
		{ "ARC-Seal: ", "ARC-Seal: v=1; h=from; " },
		{ "i=2;", "i=51;" },
		{ "i=2;", "i=0;" },
		{ "i=2;", "i=x;" },
		{ "ARC-Message", "ARC-Seal: a=rsa-sha256; i=1; cv=none\r\nARC-Message" },
	};
	struct bench t = { 0 };
	int e;

	bench_init(&t);
	span text = seal(&t, seal(&t, span_str(message), &e), &e);
	assert_int_equal(verify(&t, text).result, TRUST_PASS);
	for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
		struct arc_verdict v = verify(&t, edit(&t, text, edits[i][0], edits[i][1]));
		if (v.result != TRUST_FAIL)
			fail_msg("%s: %s", edits[i][1], v.reason);
	}
	/* Who finds it broken says so once; then the chain has ended. */
	text = seal(&t, edit(&t, text, "Hello", "Hullo"), &e);
	assert_int_equal(e, 0);
	assert_true(span_find_span(text, SPAN("cv=fail")) != SPAN_NPOS);
	assert_true(verify(&t, text).ended);
	seal(&t, text, &e);
	assert_int_equal(e, ERR_PERM);
	bench_done(&t);
}

static void test_results_are_ours(void **state)
{
	struct bench t = { 0 };
	int e;

	bench_init(&t);
	span text = seal(&t, span_str(message), &e);
	size_t at = span_find_span(text, SPAN("ARC-Authentication-Results: i=1; relay.test;\r\n"
					      "\tspf=pass smtp.mailfrom=a@b.test\r\n"));
	assert_true(at != SPAN_NPOS);
	bench_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_breaks),
		cmocka_unit_test(test_results_are_ours),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
