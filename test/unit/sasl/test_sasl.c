/* SASL against a directory made of one account, and gsasl's own client for SCRAM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <gsasl.h>

#include "base/codec.h"
#include "conf/conf.h"
#include "guard/guard.h"
#include "sasl/sasl.h"
#include "tls/hash.h"

#define ADDRESS	 "user@example.test"
#define PASSWORD "pencil"

/* ------------------------------------------------------------------ the directory */

static bool suspended;
static unsigned asked, scram_kept;

static span full(span login, struct arena *mem)
{
	if (span_find(login, '@') != SPAN_NPOS)
		return login;
	return span_str(arena_printf(mem, "%.*s@example.test", SPAN_FMT(login)));
}

int directory_login(struct directory *d, span login, struct arena *mem,
		    struct directory_account *ret)
{
	if (!span_ieq_str(full(login, mem), ADDRESS) || suspended)
		return ERR_AUTH;
	*ret = (struct directory_account){ .id = "0123456789abcdef", .address = SPAN(ADDRESS) };
	return 0;
}

int directory_authenticate(struct directory *d, const struct directory_try *t, struct arena *mem,
			   struct directory_account *ret)
{
	asked++;
	if (t->scope != DIRECTORY_IMAP || !span_eq_str(t->peer, "192.0.2.7"))
		return ERR_INTERNAL;
	if (span_eq_str(t->password, "disk is gone"))
		return ERR_IO;
	return span_eq_str(t->password, PASSWORD) ? directory_login(d, t->login, mem, ret)
						  : ERR_AUTH;
}

void directory_set_scram(struct directory *d, unsigned algs)
{
	scram_kept = algs;
}

/* Salts, iterations and password of RFC 5802 section 5 and RFC 7677 section 3. */
int directory_scram_get(struct directory *d, enum hash_alg alg, span login, struct arena *mem,
			struct directory_scram *ret)
{
	struct directory_scram v = { .iterations = 4096 };
	_cleanup_(buf_donep) struct buf salt = BUF_INIT(64);
	uint8_t salted[HASH_MAX], client[HASH_MAX];
	size_t n = hash_size(alg);

	asked++;
	v.real = directory_login(d, login, mem, &v.account) == 0;
	base64_decode(&salt, alg == HASH_SHA1 ? SPAN("QSXCR+Q6sek8bf92")
					      : SPAN("W22ZaJ0SNY7soEsUEjb6gQ=="));
	v.salt = arena_span(mem, buf_span(&salt));
	hash_pbkdf2(alg, SPAN(PASSWORD), v.salt, v.iterations, salted);
	hash_hmac(alg, span_of(salted, n), SPAN("Client Key"), client);
	hash_hmac(alg, span_of(salted, n), SPAN("Server Key"), v.server_key);
	hash_digest(alg, span_of(client, n), v.stored_key);
	*ret = v;
	return 0;
}

/* ------------------------------------------------------------------ the session */

static const struct sess_ops imap = { .proto = SESS_PROTO_IMAP };
static struct sess sess = { .ops = &imap };
static struct sasl_env *env;
static int setup(void **state)
{
	const struct conf c = { .auth_mechanisms = (1u << SASL_COUNT) - 1 };

	suspended = false;
	asked = 0;
	sess.tls = (struct sess_tls){ .active = true,
				      .has_exporter = true,
				      .exporter = "exporter exporter exporter exp.",
				      .endpoint = "end point end point end point ..",
				      .endpoint_len = 32 };
	sock_parse(SPAN("192.0.2.7:4711"), &sess.peer);
	env = sasl_env_new(NULL);
	return sasl_env_configure(env, &c, NULL);
}

static int teardown(void **state)
{
	sasl_env_free(env);
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

static enum sasl_step once(const char *mechanism, span initial)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(4096);
	struct sasl *s;
	enum sasl_step step = sasl_start(env, &sess, span_str(mechanism), initial, &s, &challenge);

	sasl_free(s);
	return step;
}

static enum sasl_step scram_by_hand(const char *mechanism, enum hash_alg alg, const char *gs2,
				    span binding);

static enum sasl_step plain(span raw)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(65536);

	return once("PLAIN", encoded(&b, raw));
}

/* ------------------------------------------------------------------ tests */

/* The table, and that its order is that of the option's choices. */
static void test_offer(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256);
	struct sasl_channel c = { .allowed = (1u << SASL_COUNT) - 1,
				  .client_cert = true,
				  .binding = true };

	sasl_offer(&b, &c, "AUTH=", " ");
	assert_int_equal(b.n, 0);
	assert_int_equal(sasl_usable(SPAN("plain"), &c), SASL_NEEDS_TLS);
	assert_int_equal(sasl_password_usable(&c), SASL_NEEDS_TLS);
	c.tls = true;
	sasl_offer(&b, &c, "", " ");
	assert_string_equal(buf_cstr(&b), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 SCRAM-SHA-1-PLUS "
					  "SCRAM-SHA-1 PLAIN LOGIN OAUTHBEARER XOAUTH2 EXTERNAL");
	assert_int_equal(sasl_usable(SPAN("plain"), &c), SASL_USABLE);
	assert_int_equal(sasl_usable(SPAN("PLAI"), &c), SASL_UNKNOWN);
	assert_int_equal(sasl_usable(SPAN("CRAM-MD5"), &c), SASL_UNKNOWN);
	c.client_cert = false;
	c.binding = false;
	buf_reset(&b);
	sasl_offer(&b, &c, "", " ");
	assert_string_equal(buf_cstr(&b),
			    "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN OAUTHBEARER XOAUTH2");
	assert_int_equal(sasl_usable(SPAN("EXTERNAL"), &c), SASL_UNKNOWN);
	assert_int_equal(sasl_usable(SPAN("SCRAM-SHA-1-PLUS"), &c), SASL_UNKNOWN);

	struct conf *conf;
	assert_int_equal(conf_parse(SPAN("server: {hostname: mx.test}\n"
					 "auth: {mechanisms: [LOGIN, SCRAM-SHA-1, XOAUTH2]}\n"),
				    "t", &conf, NULL),
			 0);
	buf_reset(&b);
	c.allowed = sasl_allowed(conf);
	sasl_offer(&b, &c, "AUTH=", " "); /* no issuer: no XOAUTH2 */
	assert_string_equal(buf_cstr(&b), "AUTH=SCRAM-SHA-1 AUTH=LOGIN");
	assert_int_equal(sasl_password_usable(&c), SASL_UNKNOWN);
	assert_int_equal(sasl_env_configure(env, conf, NULL), 0);
	assert_int_equal(scram_kept, 1u << HASH_SHA1);
	assert_int_equal(once("PLAIN", SPAN("AGEAYg==")), SASL_BAD);
	conf_unref(conf);
	/* Where no -PLUS is offered, a client that could bind is welcome. */
	assert_int_equal(scram_by_hand("SCRAM-SHA-1", HASH_SHA1, "y,,", SPAN_NULL), SASL_OK);
	sess.tls.active = false;
	assert_int_equal(once("LOGIN", SPAN_NULL), SASL_BAD);
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
	assert_int_equal(once("PLAIN", SPAN("=")), SASL_FAILED);
	assert_int_equal(asked, 0);
}

static void test_not_base64(void **state)
{
	static const char *const bad[] = { "AGEAYg",	  "AGEAYg==x", "AG EAYg==", "!!!!",
					   "AGEAYg=\xc3", "==",	       "A" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(once("PLAIN", span_str(bad[i])), SASL_BAD);
	/* Garbage and length end only this exchange. */
	char *big = malloc(SASL_MAX_LINE);
	memset(big, 'A', SASL_MAX_LINE);
	assert_int_equal(once("PLAIN", span_of(big, SASL_MAX_LINE)), SASL_BAD);
	assert_int_equal(once("PLAIN", span_of(big, SASL_MAX_LINE - 4)), SASL_FAILED);
	free(big);
}

static void test_plain_in_two_steps(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256), challenge = BUF_INIT(4096);
	_cleanup_(arena_donep) struct arena mem;
	struct directory_account a;
	struct sasl *s;

	arena_init(&mem);
	assert_int_equal(sasl_start(env, &sess, SPAN("PLAIN"), SPAN_NULL, &s, &challenge),
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

	assert_int_equal(sasl_start(env, &sess, SPAN("LOGIN"), span_str(initial), &s, &challenge),
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

	sasl_start(env, &sess, SPAN("LOGIN"), SPAN_NULL, &s, &challenge);
	assert_int_equal(sasl_next(s, SPAN("*"), &challenge), SASL_CANCELLED);
	sasl_free(s);
}

/* The exchanges of RFC 5802 section 5 and RFC 7677 section 3: our keys take the client's proof, and make the server's
 * signature. */
static void test_scram_vectors(void **state)
{
	static const struct {
		enum hash_alg alg;
		const char *message, *proof, *signature;
	} vectors[] = {
		{ HASH_SHA1,
		  "n=user,r=fyko+d2lbbFgONRv9qkxdawL,"
		  "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,"
		  "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
		  "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", "rmF9pqV8S7suAoZWja4dJRkFsKQ=" },
		{ HASH_SHA256,
		  "n=user,r=rOprNGfwEbeRWgbNEkqO,"
		  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s="
		  "W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
		  "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
		  "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		  "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },
	};
	for (size_t k = 0; k < ARRAY_LEN(vectors); k++) {
		_cleanup_(buf_donep) struct buf b = BUF_INIT(256), proof = BUF_INIT(64);
		_cleanup_(arena_donep) struct arena mem = { 0 };
		struct directory_scram v;
		uint8_t sig[HASH_MAX], key[HASH_MAX], stored[HASH_MAX];
		enum hash_alg alg = vectors[k].alg;
		span message = span_str(vectors[k].message);
		size_t n = hash_size(alg);

		directory_scram_get(NULL, alg, SPAN(ADDRESS), &mem, &v);
		base64_decode(&proof, span_str(vectors[k].proof));
		assert_int_equal(proof.n, n);
		hash_hmac(alg, span_of(v.stored_key, n), message, sig);
		for (size_t i = 0; i < n; i++)
			key[i] = (uint8_t)proof.p[i] ^ sig[i];
		hash_digest(alg, span_of(key, n), stored);
		assert_memory_equal(stored, v.stored_key, n);
		hash_hmac(alg, span_of(v.server_key, n), message, sig);
		base64_encode(&b, span_of(sig, n));
		assert_string_equal(buf_cstr(&b), vectors[k].signature);
	}
}

struct scram_case {
	const char *name, *authzid, *password;
	int break_at; /* the client's message whose last byte is changed; 0: none */
	bool no_initial;
	const char *mechanism; /* NULL: SCRAM-SHA-256 */
	const char *exporter;  /* what the client knows of its channel, base64 */
};
#define EXPORTER "ZXhwb3J0ZXIgZXhwb3J0ZXIgZXhwb3J0ZXIgZXhwLgA="

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
	const char *mechanism = c->mechanism ? c->mechanism : "SCRAM-SHA-256";
	assert_int_equal(gsasl_client_start(ctx, mechanism, &client), GSASL_OK);
	if (c->exporter)
		gsasl_property_set(client, GSASL_CB_TLS_EXPORTER, c->exporter);
	gsasl_property_set(client, GSASL_AUTHID, c->name);
	gsasl_property_set(client, GSASL_PASSWORD, c->password);
	if (c->authzid)
		gsasl_property_set(client, GSASL_AUTHZID, c->authzid);
	*ret_signed = false;
	if (c->no_initial)
		assert_int_equal(
			sasl_start(env, &sess, span_str(mechanism), SPAN_NULL, &s, &challenge),
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
			 : sasl_start(env, &sess, span_str(mechanism), line, &s, &challenge);
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
	static const struct scram_case
		good[] = { { ADDRESS, NULL, PASSWORD },
			   { "user", NULL, PASSWORD },
			   { ADDRESS, ADDRESS, PASSWORD },
			   { ADDRESS, NULL, PASSWORD, .no_initial = true },
			   { ADDRESS, NULL, PASSWORD, .mechanism = "SCRAM-SHA-1" },
			   { ADDRESS, NULL, PASSWORD, .mechanism = "SCRAM-SHA-1-PLUS",
			     .exporter = EXPORTER },
			   { ADDRESS, NULL, PASSWORD, .mechanism = "SCRAM-SHA-256-PLUS",
			     .exporter = EXPORTER } },
		bad[] = { { ADDRESS, NULL, "wrong" },
			  { "nobody@example.test", NULL,
			    PASSWORD }, /* its made-up keys cannot log in */
			  { ADDRESS, "boss@example.test", PASSWORD },
			  { ADDRESS, NULL, PASSWORD, .break_at = 2 },
			  /* bound to another channel */
			  { ADDRESS, NULL, PASSWORD, .mechanism = "SCRAM-SHA-256-PLUS",
			    .exporter = "AAAA" } };
	bool is_signed;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(scram_run(&good[i], &is_signed), SASL_OK);
		assert_true(is_signed);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (scram_run(&bad[i], &is_signed) != SASL_FAILED)
			fail_msg("bad case %zu", i);
	suspended = true;
	assert_int_equal(scram_run(&good[0], &is_signed), SASL_FAILED);
	suspended = false;
}

/* The client of RFC 5802 section 5 and RFC 7677 section 3, after whose messages the nonce is ours; so the
 * proof is computed here, and for both types of binding. */
static enum sasl_step scram_by_hand(const char *mechanism, enum hash_alg alg, const char *gs2,
				    span binding)
{
	_cleanup_(buf_donep) struct buf challenge = BUF_INIT(8192), b = BUF_INIT(8192),
					server = BUF_INIT(8192), auth = BUF_INIT(8192),
					final = BUF_INIT(8192), header = BUF_INIT(8192);
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_scram v;
	uint8_t salted[HASH_MAX], client[HASH_MAX], signature[HASH_MAX];
	size_t n = hash_size(alg);
	struct sasl *s;

	buf_printf(&header, "%sn=user,r=fyko+d2lbbFgONRv9qkxdawL", gs2);
	enum sasl_step step = sasl_start(env, &sess, span_str(mechanism),
					 encoded(&b, buf_span(&header)), &s, &challenge);
	if (step != SASL_CONTINUE) {
		sasl_free(s);
		return step;
	}
	base64_decode(&server, buf_span(&challenge));
	span nonce = span_sub(buf_span(&server), 2, span_find(buf_span(&server), ',') - 2);
	buf_reset(&header);
	buf_put_str(&header, gs2);
	buf_put_span(&header, binding);
	buf_put_str(&final, "c=");
	base64_encode(&final, buf_span(&header));
	buf_printf(&final, ",r=%.*s", SPAN_FMT(nonce));
	buf_printf(&auth, "n=user,r=fyko+d2lbbFgONRv9qkxdawL,%s,", buf_cstr(&server));
	buf_put_span(&auth, buf_span(&final));

	directory_scram_get(NULL, alg, SPAN("user"), &mem, &v);
	hash_pbkdf2(alg, SPAN(PASSWORD), v.salt, v.iterations, salted);
	hash_hmac(alg, span_of(salted, n), SPAN("Client Key"), client);
	hash_hmac(alg, span_of(v.stored_key, n), buf_span(&auth), signature);
	for (size_t i = 0; i < n; i++)
		client[i] ^= signature[i];
	buf_put_str(&final, ",p=");
	base64_encode(&final, span_of(client, n));
	buf_reset(&challenge);
	step = sasl_next(s, encoded(&b, buf_span(&final)), &challenge);
	if (step == SASL_CONTINUE) {
		buf_reset(&server);
		base64_decode(&server, buf_span(&challenge));
		hash_hmac(alg, span_of(v.server_key, n), buf_span(&auth), signature);
		buf_reset(&final);
		buf_put_str(&final, "v=");
		base64_encode(&final, span_of(signature, n));
		assert_true(span_eq(buf_span(&server), buf_span(&final)));
		step = sasl_next(s, SPAN(""), &challenge);
	}
	sasl_free(s);
	return step;
}

static void test_channel_binding(void **state)
{
	static const struct {
		const char *plain, *plus;
		enum hash_alg alg;
	} kinds[] = { { "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", HASH_SHA1 },
		      { "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", HASH_SHA256 } };
	span exporter = span_of(sess.tls.exporter, 32), endpoint = span_of(sess.tls.endpoint, 32);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *plain = kinds[i].plain, *plus = kinds[i].plus;
		enum hash_alg alg = kinds[i].alg;
		assert_int_equal(scram_by_hand(plain, alg, "n,,", SPAN_NULL), SASL_OK);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-exporter,,", exporter), SASL_OK);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-server-end-point,,", endpoint),
				 SASL_OK);
		assert_int_equal(scram_by_hand(plain, alg, "y,,", SPAN_NULL), SASL_FAILED);
		assert_int_equal(scram_by_hand(plain, alg, "p=tls-exporter,,", exporter),
				 SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "n,,", SPAN_NULL), SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "y,,", SPAN_NULL), SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-unique,,", exporter), SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-exporter,,", endpoint),
				 SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-server-end-point,,", exporter),
				 SASL_FAILED);
		sess.tls.has_exporter = false; /* TLS 1.2 without extended master secret */
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-exporter,,", exporter),
				 SASL_FAILED);
		assert_int_equal(scram_by_hand(plus, alg, "p=tls-server-end-point,,", endpoint),
				 SASL_OK);
		sess.tls.endpoint_len = 0; /* nothing at all: not offered, so "y" is no downgrade */
		assert_int_equal(once(plus, SPAN_NULL), SASL_BAD);
		assert_int_equal(scram_by_hand(plain, alg, "y,,", SPAN_NULL), SASL_OK);
		sess.tls.has_exporter = true;
		sess.tls.endpoint_len = 32;
	}
}

static void test_external(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256);

	assert_int_equal(once("EXTERNAL", SPAN("=")), SASL_BAD); /* no certificate */
	sess.tls.client_emails = SPAN("boss@elsewhere.test\n" ADDRESS);
	assert_int_equal(once("EXTERNAL", SPAN_NULL), SASL_CONTINUE);
	assert_int_equal(once("EXTERNAL", SPAN("=")), SASL_OK);
	assert_int_equal(once("EXTERNAL", encoded(&b, SPAN(ADDRESS))), SASL_OK);
	assert_int_equal(once("EXTERNAL", encoded(&b, SPAN("boss@elsewhere.test"))), SASL_FAILED);
	assert_int_equal(once("EXTERNAL", encoded(&b, SPAN("a\0b"))), SASL_FAILED);
	suspended = true;
	assert_int_equal(once("EXTERNAL", SPAN("=")), SASL_FAILED);
}

/* Whatever is sent, there is an end to it. */
static void test_oversize(void **state)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(65536), b = BUF_INIT(131072);
	static const char *const mechanisms[] = { "PLAIN", "LOGIN", "SCRAM-SHA-256",
						  "SCRAM-SHA-256-PLUS" };

	for (size_t i = 0; i < 40000; i++)
		buf_put_char(&raw, 'a');
	encoded(&b, buf_span(&raw));
	for (size_t i = 0; i < ARRAY_LEN(mechanisms); i++) {
		assert_int_equal(once(mechanisms[i], buf_span(&b)), SASL_BAD);
		/* The longest that may come; LOGIN takes it for a name, of which it says nothing yet. */
		enum sasl_step step = once(mechanisms[i],
					   span_sub(buf_span(&b), 0, SASL_MAX_LINE - 4));
		if (step != SASL_FAILED && strcmp(mechanisms[i], "LOGIN") != 0)
			fail_msg("%s: %d", mechanisms[i], step);
	}
	assert_int_equal(asked, 0);
}

/* A failure is named by the guess, whatever the mechanism, and a full disk is none. */
static void test_guesses(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(256), challenge = BUF_INIT(4096);
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_account a;
	struct sasl *s;

	assert_int_equal(sasl_start(env, &sess, SPAN("PLAIN"),
				    encoded(&b, SPAN("\0" ADDRESS "\0wrong")), &s, &challenge),
			 SASL_FAILED);
	assert_true(sasl_guess(s) == guard_guess(SPAN(ADDRESS), SPAN("wrong")));
	sasl_free(s);
	assert_int_equal(
		sasl_start(env, &sess, SPAN("SCRAM-SHA-256"), SPAN("AAAA"), &s, &challenge),
		SASL_FAILED);
	assert_true(sasl_guess(s) == 0);
	sasl_free(s);
	assert_int_equal(plain(SPAN("\0" ADDRESS "\0disk is gone")), SASL_UNAVAILABLE);
	assert_int_equal(sasl_password(env, &sess, SPAN(ADDRESS), SPAN("disk is gone"), &mem, &a),
			 ERR_IO);
	assert_int_equal(sasl_password(env, &sess, SPAN(ADDRESS), SPAN("wrong"), &mem, &a),
			 ERR_AUTH);
	assert_int_equal(sasl_password(env, &sess, SPAN(ADDRESS), SPAN(PASSWORD), &mem, &a), 0);
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

		if (once("SCRAM-SHA-256", encoded(&b, span_str(firsts[i]))) != SASL_FAILED)
			fail_msg("%s", firsts[i]);
	}
	assert_int_equal(once("SCRAM-SHA-256", SPAN("AAAA")), SASL_FAILED);
	assert_int_equal(once("SCRAM-SHA-256", SPAN("=")), SASL_FAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_offer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_base64, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plain_in_two_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_login, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scram_vectors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scram, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scram_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_channel_binding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_external, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oversize, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guesses, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
