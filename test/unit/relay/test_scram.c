/* SCRAM as a client: the examples of RFC 5802 section 5 and RFC 7677 section 3, and servers that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/scram.h"

static struct arena mem;

static int setup(void **state)
{
	arena_init(&mem);
	return 0;
}

static int teardown(void **state)
{
	arena_done(&mem);
	return 0;
}

static const struct {
	enum scram_hash hash;
	const char *nonce, *first, *server_first, *final, *server_final;
} examples[] = {
	{ SCRAM_SHA1, "fyko+d2lbbFgONRv9qkxdawL", "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
	  "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
	  "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
	  "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=" },
	{ SCRAM_SHA256, "rOprNGfwEbeRWgbNEkqO", "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
	  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
	  "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
	  "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
	  "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },
};

static void test_examples(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(examples); i++) {
		_cleanup_(buf_donep) struct buf out = BUF_INIT(4096);
		struct scram s;

		scram_init(&s, examples[i].hash, SPAN("user"), SPAN("pencil"),
			   span_str(examples[i].nonce), &mem);
		scram_first(&s, &out);
		assert_string_equal(buf_cstr(&out), examples[i].first);
		buf_reset(&out);
		assert_true(scram_verify(&s, span_str(examples[i].server_final)) <
			    0); /* too soon */
		assert_int_equal(scram_final(&s, span_str(examples[i].server_first), &out), 0);
		assert_string_equal(buf_cstr(&out), examples[i].final);
		assert_int_equal(scram_verify(&s, span_str(examples[i].server_final)), 0);
		assert_int_equal(scram_verify(&s, SPAN("v=AAAA")), ERR_AUTH);
		assert_int_equal(scram_verify(&s, SPAN("e=invalid-proof")), ERR_AUTH);
		assert_int_equal(scram_verify(&s, SPAN("")), ERR_SYNTAX);
		scram_done(&s);
	}
}

static void test_lies(void **state)
{
	static const struct {
		const char *server_first;
		int error;
	} rows[] = {
		{ "", ERR_SYNTAX },
		{ "r=mine,s=QSXCR+Q6sek8bf92,i=4096", ERR_SYNTAX }, /* adds nothing of its own */
		{ "r=other1234,s=QSXCR+Q6sek8bf92,i=4096", ERR_SYNTAX }, /* not our nonce */
		{ "r=mine1234,s=,i=4096", ERR_SYNTAX },
		{ "r=mine1234,s=!!,i=4096", ERR_SYNTAX },
		{ "r=mine1234,s=QSXCR+Q6sek8bf92", ERR_SYNTAX },
		{ "r=mine1234,s=QSXCR+Q6sek8bf92,i=", ERR_SYNTAX },
		{ "r=mine1234,s=QSXCR+Q6sek8bf92,i=99999999999", ERR_SYNTAX },
		{ "r=mine1234,s=QSXCR+Q6sek8bf92,i=1",
		  ERR_UNSUPPORTED }, /* to learn the password */
		{ "r=mine1234,s=QSXCR+Q6sek8bf92,i=4000000000",
		  ERR_UNSUPPORTED }, /* to keep us busy */
		{ "m=x,r=mine1234,s=QSXCR+Q6sek8bf92,i=4096", ERR_UNSUPPORTED },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_(buf_donep) struct buf out = BUF_INIT(4096);
		struct scram s;

		scram_init(&s, SCRAM_SHA1, SPAN("user"), SPAN("pencil"), SPAN("mine"), &mem);
		assert_int_equal(scram_final(&s, span_str(rows[i].server_first), &out),
				 rows[i].error);
		assert_int_equal(out.n, 0);
	}
}

static void test_names(void **state)
{
	_cleanup_(buf_donep) struct buf out = BUF_INIT(4096);
	struct scram s;

	scram_init(&s, SCRAM_SHA256, SPAN("a=b,c"), SPAN(""), SPAN("n"), &mem);
	scram_first(&s, &out);
	assert_string_equal(buf_cstr(&out), "n,,n=a=3Db=2Cc,r=n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_examples, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
