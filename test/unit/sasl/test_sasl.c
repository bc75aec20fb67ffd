/* SASL against a directory made of one account, and gsasl's own client for SCRAM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <gsasl.h>

#include "base/codec.h"
#include "sasl/sasl.h"
#include "tls/hash.h"

#define ADDRESS	 "user@example.test"
#define PASSWORD "pencil"

static const struct sess_tls tls_on = { .active = true }, tls_off = { .active = false };

/* ------------------------------------------------------------------ the directory */

static bool suspended;
static unsigned asked;

static span full(span login, struct arena *mem)
{
	if (span_find(login, '@') != SPAN_NPOS)
		return login;
	return span_str(arena_printf(mem, "%.*s@example.test", SPAN_FMT(login)));
}

int directory_authenticate(struct directory *d, span login, span password, struct arena *mem,
			   struct directory_account *ret)
{
	asked++;
	if (!span_ieq_str(full(login, mem), ADDRESS) || !span_eq_str(password, PASSWORD))
		return ERR_AUTH;
	*ret = (struct directory_account){ .id = "0123456789abcdef", .address = SPAN(ADDRESS) };
	return 0;
}

int directory_account_get(struct directory *d, span address, struct arena *mem,
			  struct directory_account *ret)
{
	if (!span_ieq_str(address, ADDRESS))
		return ERR_NOENT;
	*ret = (struct directory_account){ .id = "0123456789abcdef",
					   .address = SPAN(ADDRESS),
					   .suspended = suspended };
	return 0;
}

int directory_domains(struct directory *d, struct arena *mem, struct directory_domain **ret,
		      size_t *n)
{
	*ret = arena_new(mem, struct directory_domain);
	(*ret)->name = SPAN("example.test");
	*n = 1;
	return 0;
}

/* Salt, iterations and password of RFC 7677 section 3. */
int directory_scram_get(struct directory *d, span login, struct arena *mem,
			struct directory_scram *ret)
{
	struct directory_scram v = { .iterations = 4096,
				     .real = span_ieq_str(full(login, mem), ADDRESS) };
	_cleanup_(buf_donep) struct buf salt = BUF_INIT(64);
	uint8_t salted[32], client[32];

	asked++;
	base64_decode(&salt, SPAN("W22ZaJ0SNY7soEsUEjb6gQ=="));
	v.salt = arena_span(mem, buf_span(&salt));
	pbkdf2_sha256(SPAN(PASSWORD), v.salt, v.iterations, salted);
	hmac_sha256(span_of(salted, 32), SPAN("Client Key"), client);
	hmac_sha256(span_of(salted, 32), SPAN("Server Key"), v.server_key);
	sha256(span_of(client, 32), v.stored_key);
	*ret = v;
	return 0;
}

/* ------------------------------------------------------------------ helpers */

/* PLAIN-like message in base64. */
static span encoded(struct buf *b, span raw)
{
	buf_reset(b);
	base64_encode(b, raw);
	return buf_span(b);
}

static enum sasl_step once(const char *mechanism, span initial, const struct sess_tls *tls)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(4096);
	struct sasl *s;
	enum sasl_step step = sasl_start(NULL, span_str(mechanism), initial, tls, &s, &challenge);

	sasl_free(s);
	return step;
}

static enum sasl_step plain(span raw)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(65536);

	return once("PLAIN", encoded(&b, raw), &tls_on);
}

/* ------------------------------------------------------------------ tests */

static void test_offer(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256);

	sasl_offer(&b, false, "AUTH=", " ");
	assert_int_equal(b.n, 0);
	sasl_offer(&b, true, "AUTH=", " ");
	assert_string_equal(buf_cstr(&b), "AUTH=PLAIN AUTH=LOGIN AUTH=SCRAM-SHA-256");
	assert_true(sasl_allowed(SPAN("plain"), true));
	assert_false(sasl_allowed(SPAN("plain"), false));
	assert_false(sasl_allowed(SPAN("PLAI"), true));
	assert_false(sasl_allowed(SPAN("CRAM-MD5"), true));
	assert_int_equal(once("PLAIN", SPAN("AGEAYg=="), &tls_off), SASL_BAD);
	assert_int_equal(once("XOAUTH2", SPAN_NULL, &tls_on), SASL_BAD);
}

static void test_plain(void **state)
{
	assert_int_equal(plain(SPAN("\0" ADDRESS "\0" PASSWORD)), SASL_OK);
	assert_int_equal(plain(SPAN("\0user\0" PASSWORD)), SASL_OK);
	assert_int_equal(plain(SPAN(ADDRESS "\0" ADDRESS "\0" PASSWORD)), SASL_OK);
	assert_int_equal(plain(SPAN("\0" ADDRESS "\0wrong")), SASL_FAILED);
	assert_int_equal(plain(SPAN("\0nobody@example.test\0" PASSWORD)), SASL_FAILED);
	asked = 0;
	assert_int_equal(plain(SPAN("boss@example.test\0" ADDRESS "\0" PASSWORD)), SASL_FAILED);
	assert_int_equal(plain(SPAN("\0" ADDRESS "\0" PASSWORD "\0")), SASL_FAILED);
	assert_int_equal(plain(SPAN("\0" ADDRESS)), SASL_FAILED);
	assert_int_equal(plain(SPAN("\0\0")), SASL_FAILED);
	assert_int_equal(plain(SPAN("user")), SASL_FAILED);
	assert_int_equal(once("PLAIN", SPAN("="), &tls_on), SASL_FAILED);
	assert_int_equal(asked, 0);
}

static void test_not_base64(void **state)
{
	static const char *const bad[] = { "AGEAYg",	  "AGEAYg==x", "AG EAYg==", "!!!!",
					   "AGEAYg=\xc3", "==",	       "A" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(once("PLAIN", span_str(bad[i]), &tls_on), SASL_BAD);
	/* Garbage and length end only this exchange. */
	char *big = malloc(SASL_MAX_LINE);
	memset(big, 'A', SASL_MAX_LINE);
	assert_int_equal(once("PLAIN", span_of(big, SASL_MAX_LINE), &tls_on), SASL_BAD);
	assert_int_equal(once("PLAIN", span_of(big, SASL_MAX_LINE - 4), &tls_on), SASL_FAILED);
	free(big);
}

static void test_plain_in_two_steps(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256), challenge = BUF_INIT(4096);
	_cleanup_(arena_donep) struct arena mem;
	struct directory_account a;
	struct sasl *s;

	arena_init(&mem);
	assert_int_equal(sasl_start(NULL, SPAN("PLAIN"), SPAN_NULL, &tls_on, &s, &challenge),
			 SASL_CONTINUE);
	assert_int_equal(challenge.n, 0);
	assert_int_equal(sasl_next(s, encoded(&b, SPAN("\0" ADDRESS "\0" PASSWORD)), &challenge),
			 SASL_OK);
	assert_true(span_eq_str(sasl_login(s), ADDRESS));
	sasl_account(s, &mem, &a);
	sasl_free(s);
	assert_true(span_eq_str(a.address, ADDRESS));
}

static void login_run(const char *initial, const char *name, const char *password,
		      enum sasl_step wanted)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256), challenge = BUF_INIT(4096);
	struct sasl *s;

	assert_int_equal(
		sasl_start(NULL, SPAN("LOGIN"), span_str(initial), &tls_on, &s, &challenge),
		SASL_CONTINUE);
	if (name) {
		assert_string_equal(buf_cstr(&challenge), "VXNlcm5hbWU6");
		buf_reset(&challenge);
		assert_int_equal(sasl_next(s, encoded(&b, span_str(name)), &challenge),
				 SASL_CONTINUE);
	}
	assert_string_equal(buf_cstr(&challenge), "UGFzc3dvcmQ6");
	assert_int_equal(sasl_next(s, encoded(&b, span_str(password)), &challenge), wanted);
	sasl_free(s);
}

static void test_login(void **state)
{
	login_run(NULL, ADDRESS, PASSWORD, SASL_OK);
	login_run("dXNlckBleGFtcGxlLnRlc3Q=", NULL, PASSWORD, SASL_OK);
	login_run(NULL, ADDRESS, "wrong", SASL_FAILED);
	login_run(NULL, "", PASSWORD, SASL_FAILED);
}

static void test_cancel(void **state)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(4096);
	struct sasl *s;

	sasl_start(NULL, SPAN("LOGIN"), SPAN_NULL, &tls_on, &s, &challenge);
	assert_int_equal(sasl_next(s, SPAN("*"), &challenge), SASL_CANCELLED);
	sasl_free(s);
}

/* The keys that RFC 7677's example implies. */
static void test_scram_vector_keys(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256), proof = BUF_INIT(64),
					signature = BUF_INIT(64);
	_cleanup_(arena_donep) struct arena mem;
	struct directory_scram v;
	uint8_t sig[32], key[32], stored[32];
	span message = SPAN("n=user,r=rOprNGfwEbeRWgbNEkqO,"
			    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s="
			    "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
			    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");

	arena_init(&mem);
	directory_scram_get(NULL, SPAN(ADDRESS), &mem, &v);
	base64_decode(&proof, SPAN("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
	hmac_sha256(span_of(v.stored_key, 32), message, sig);
	for (int i = 0; i < 32; i++)
		key[i] = (uint8_t)proof.p[i] ^ sig[i];
	sha256(span_of(key, 32), stored);
	assert_memory_equal(stored, v.stored_key, 32);
	hmac_sha256(span_of(v.server_key, 32), message, sig);
	base64_encode(&b, span_of(sig, 32));
	assert_string_equal(buf_cstr(&b), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

struct scram_case {
	const char *name, *authzid, *password;
	int break_at; /* the client's message whose last byte is changed; 0: none */
	bool no_initial;
};

/* Lets gsasl's client talk to us; *RET_SIGNED: it has verified our signature. */
static enum sasl_step scram_run(const struct scram_case *c, bool *ret_signed)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(8192), in = BUF_INIT(8192);
	struct sasl *s = NULL;
	Gsasl *ctx;
	Gsasl_session *client;
	enum sasl_step step = SASL_CONTINUE;
	int e = GSASL_NEEDS_MORE;

	assert_int_equal(gsasl_init(&ctx), GSASL_OK);
	assert_int_equal(gsasl_client_start(ctx, "SCRAM-SHA-256", &client), GSASL_OK);
	gsasl_property_set(client, GSASL_AUTHID, c->name);
	gsasl_property_set(client, GSASL_PASSWORD, c->password);
	if (c->authzid)
		gsasl_property_set(client, GSASL_AUTHZID, c->authzid);
	*ret_signed = false;
	if (c->no_initial)
		assert_int_equal(
			sasl_start(NULL, SPAN("SCRAM-SHA-256"), SPAN_NULL, &tls_on, &s, &challenge),
			SASL_CONTINUE);
	for (int i = 1; step == SASL_CONTINUE && e == GSASL_NEEDS_MORE; i++) {
		char *out = NULL;
		span line;

		e = gsasl_step64(client, buf_cstr(&challenge), &out);
		if (e != GSASL_OK && e != GSASL_NEEDS_MORE)
			break;
		if (i == c->break_at) {
			buf_reset(&in);
			base64_decode(&in, span_str(out));
			in.p[in.n - 3] = in.p[in.n - 3] == 'A' ? 'B' : 'A';
			gsasl_free(out);
			gsasl_base64_to(in.p, in.n, &out, NULL);
		}
		line = span_str(out);
		buf_reset(&challenge);
		step = s ? sasl_next(s, line, &challenge)
			 : sasl_start(NULL, SPAN("SCRAM-SHA-256"), line, &tls_on, &s, &challenge);
		gsasl_free(out);
	}
	*ret_signed = e == GSASL_OK;
	sasl_free(s);
	gsasl_finish(client);
	gsasl_done(ctx);
	return step;
}

static void test_scram(void **state)
{
	static const struct scram_case good[] = { { ADDRESS, NULL, PASSWORD },
						  { "user", NULL, PASSWORD },
						  { ADDRESS, ADDRESS, PASSWORD },
						  { ADDRESS, NULL, PASSWORD, .no_initial = true } },
				       bad[] = { { ADDRESS, NULL, "wrong" },
						 { "nobody@example.test", NULL,
						   PASSWORD }, /* its made-up keys cannot log in */
						 { ADDRESS, "boss@example.test", PASSWORD },
						 { ADDRESS, NULL, PASSWORD, .break_at = 2 } };
	bool is_signed;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(scram_run(&good[i], &is_signed), SASL_OK);
		assert_true(is_signed);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(scram_run(&bad[i], &is_signed), SASL_FAILED);
	suspended = true;
	assert_int_equal(scram_run(&good[0], &is_signed), SASL_FAILED);
	suspended = false;
}

static void test_scram_garbage(void **state)
{
	static const char *const firsts[] = { "n,,",
					      "p=tls-exporter,,n=user,r=abc",
					      "x,,n=user,r=a",
					      "n,,n=,r=abc",
					      "n,,n=user",
					      "n,,m=ext,n=user,r=abc",
					      "n" };
	for (size_t i = 0; i < ARRAY_LEN(firsts); i++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(256);

		if (once("SCRAM-SHA-256", encoded(&b, span_str(firsts[i])), &tls_on) != SASL_FAILED)
			fail_msg("%s", firsts[i]);
	}
	assert_int_equal(once("SCRAM-SHA-256", SPAN("AAAA"), &tls_on), SASL_FAILED);
	assert_int_equal(once("SCRAM-SHA-256", SPAN("="), &tls_on), SASL_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_not_base64),
		cmocka_unit_test(test_plain_in_two_steps),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_scram_vector_keys),
		cmocka_unit_test(test_scram),
		cmocka_unit_test(test_scram_garbage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
