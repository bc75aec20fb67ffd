/* The judge of the keys role: what it signs, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls/dkim_keys.h"
#include "tls/hash.h"
#include "tls/verify.h"

#define DOMAIN	 SPAN("a.test")
#define SELECTOR SPAN("s1")
#define GOOD                                                                                     \
	"from:<x@a.test>\r\ndkim-signature:v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; " \
	"s=s1; t=1; h=from; bh=AAAA; b="

static char dir[] = "/tmp/dkim-keys-XXXXXX";

static int ask(struct dkim_keys *k, uint16_t type, span domain, span selector, span more,
	       struct buf *b, span *ret)
{
	struct buf q = BUF_INIT(200 * 1024);

	dkim_keys_put(&q, domain, selector);
	buf_put_span(&q, more);
	buf_reset(b);
	dkim_keys_judge(k, type, buf_span(&q), b);
	buf_done(&q);
	return dkim_keys_answer(buf_span(b), ret);
}

static void test_life(void **state)
{
	struct buf b = BUF_INIT(4096), b2 = BUF_INIT(4096);
	struct dkim_keys *k;
	span public, again;
	struct stat st;
	char path[200];
	const char ed = SIGN_ED25519, none = 9;

	assert_int_equal(dkim_keys_open(dir, &k, NULL), 0);
	assert_int_equal(ask(k, KEYS_DKIM_NEW, DOMAIN, SELECTOR, span_of(&ed, 1), &b, &public), 0);
	assert_int_equal(public.n, 32);
	assert_int_equal(ask(k, KEYS_DKIM_NEW, DOMAIN, SELECTOR, span_of(&ed, 1), &b2, &again),
			 ERR_EXIST);
	assert_int_equal(ask(k, KEYS_DKIM_NEW, DOMAIN, SPAN("s2"), span_of(&none, 1), &b2, &again),
			 ERR_INVAL);
	snprintf(path, sizeof path, "%s/s1._domainkey.a.test.pem", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	dkim_keys_close(k);

	/* It is there at the next start. */
	assert_int_equal(dkim_keys_open(dir, &k, NULL), 0);
	assert_int_equal(ask(k, KEYS_DKIM_LIST, DOMAIN, SELECTOR, SPAN_NULL, &b2, &again), 0);
	assert_true(again.n == 33 && again.p[0] == SIGN_ED25519 &&
		    span_eq(span_from(again, 1), public));

	struct verify_key *v;
	uint8_t digest[32];
	struct buf sig = BUF_INIT(1024);
	span signature;
	assert_int_equal(verify_key_ed25519(public, &v), 0);
	assert_int_equal(ask(k, KEYS_DKIM_SIGN, DOMAIN, SELECTOR, SPAN(GOOD), &sig, &signature), 0);
	sha256(SPAN(GOOD), digest);
	assert_int_equal(verify_digest(v, digest, signature), 0);
	verify_key_free(v);

	assert_int_equal(ask(k, KEYS_DKIM_DROP, DOMAIN, SELECTOR, SPAN_NULL, &b2, &again), 0);
	assert_int_equal(ask(k, KEYS_DKIM_DROP, DOMAIN, SELECTOR, SPAN_NULL, &b2, &again), 0);
	assert_int_equal(ask(k, KEYS_DKIM_SIGN, DOMAIN, SELECTOR, SPAN(GOOD), &b2, &again),
			 ERR_NOENT);
	assert_int_not_equal(stat(path, &st), 0);
	dkim_keys_close(k);
	buf_done(&b);
	buf_done(&b2);
	buf_done(&sig);
}

static void test_forged(void **state)
{
#define FIELD(tags) "from:<x@a.test>\r\ndkim-signature:" tags
	static const char
		*const texts[] = {
			"01234567890123456789012345678901", /* a bare digest */
			"",
			"dkim-signature:v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; s=s1; "
			"b=", /* signs no field */
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=b.test; s=s1; h=from; "
			      "b="),
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; s=s2; h=from; "
			      "b="),
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; d=b.test; s=s1; "
			      "h=from; b="),
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=b.test; d=a.test; s=s1; "
			      "h=from; b="),
			FIELD("v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.test; s=s1; h=from; b="),
			FIELD("v=1; a=ed25519-sha256; c=simple/relaxed; d=a.test; s=s1; h=from; "
			      "b="),
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; s=s1; h=from; "
			      "b=AAAA"),
			FIELD("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=a.test; s=s1; b=; "
			      "h=from"),
			GOOD "\r\n",
			GOOD "\r\narc-seal:i=1; a=ed25519-sha256; d=a.test; s=s1; cv=none; b=",
		};
	struct buf b = BUF_INIT(4096), big = BUF_INIT(200 * 1024);
	const char ed = SIGN_ED25519;
	struct dkim_keys *k;
	span got;

	assert_int_equal(dkim_keys_open(dir, &k, NULL), 0);
	assert_int_equal(ask(k, KEYS_DKIM_NEW, DOMAIN, SELECTOR, span_of(&ed, 1), &b, &got), 0);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		assert_int_equal(
			ask(k, KEYS_DKIM_SIGN, DOMAIN, SELECTOR, span_str(texts[i]), &b, &got),
			ERR_PERM);
	while (big.n < KEYS_DKIM_TEXT_MAX)
		buf_put_str(&big, "to:<somebody@b.test>\r\n");
	buf_put_str(&big, GOOD);
	assert_int_equal(ask(k, KEYS_DKIM_SIGN, DOMAIN, SELECTOR, buf_span(&big), &b, &got),
			 ERR_PERM);
	assert_int_equal(ask(k, KEYS_DKIM_SIGN, SPAN("b.test"), SELECTOR, SPAN(GOOD), &b, &got),
			 ERR_NOENT);
	assert_int_equal(ask(k, 120, DOMAIN, SELECTOR, SPAN(GOOD), &b, &got), ERR_UNSUPPORTED);
	buf_reset(&b);
	dkim_keys_judge(k, KEYS_DKIM_SIGN, SPAN("xx"), &b);
	assert_int_equal(dkim_keys_answer(buf_span(&b), &got), ERR_INVAL);
	assert_int_equal(ask(k, KEYS_DKIM_DROP, DOMAIN, SELECTOR, SPAN_NULL, &b, &got), 0);
	dkim_keys_close(k);
	buf_done(&b);
	buf_done(&big);
}

static void test_names(void **state)
{
	static const char *const bad[] = { "",	 ".",  "..", "../x", "a/b",	"a..b",
					   ".a", "a.", "A",  "a b",  "\xc3\xa4" };
	struct buf b = BUF_INIT(4096);
	const char ed = SIGN_ED25519;
	struct dkim_keys *k;
	span got;

	assert_int_equal(dkim_keys_open(dir, &k, NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(ask(k, KEYS_DKIM_NEW, span_str(bad[i]), SELECTOR, span_of(&ed, 1),
				     &b, &got),
				 ERR_INVAL);
		assert_int_equal(
			ask(k, KEYS_DKIM_NEW, DOMAIN, span_str(bad[i]), span_of(&ed, 1), &b, &got),
			ERR_INVAL);
	}
	dkim_keys_close(k);
	buf_done(&b);
}

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_life),
					    cmocka_unit_test(test_forged),
					    cmocka_unit_test(test_names) };
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
