/* SCRAM verifiers: what RFC 5802 section 3 lets a server keep instead of the password. */
#include "directory/directory_int.h"

#include "base/id.h"
#include "format/saslprep.h"

enum { SCRAM_ITERATIONS = 10000 }; /* RFC 7677 section 4 asks for at least 4,096 */

unsigned scram_algs(struct directory *d)
{
	return atomic_load_explicit(&d->scram, memory_order_relaxed);
}

void directory_set_scram(struct directory *d, unsigned algs)
{
	atomic_store_explicit(&d->scram, algs, memory_order_relaxed);
}

/* A password that SASLprep refuses cannot be used with SCRAM by any client. */
unsigned scram_wanted(struct directory *d, span password)
{
	_cleanup_(buf_donep) struct buf prepared = BUF_INIT(SASLPREP_MAX * 4);
	unsigned algs = scram_algs(d);
	if (algs && saslprep(&prepared, password) < 0)
		algs = 0;
	if (prepared.p)
		secret_wipe(prepared.p, prepared.cap);
	return algs;
}

unsigned scram_present(const struct credential *c)
{
	unsigned algs = 0;
	for (int i = 0; i < HASH_ALGS; i++)
		if (c->scram[i].iterations)
			algs |= 1u << i;
	return algs;
}

static int derive(enum hash_alg alg, span prepared, struct scram_keys *k)
{
	uint8_t salted[HASH_MAX], client[HASH_MAX];
	size_t n = hash_size(alg);
	random_bytes(k->salt, sizeof(k->salt));
	int r = hash_pbkdf2(alg, prepared, span_of(k->salt, sizeof(k->salt)), SCRAM_ITERATIONS,
			    salted);
	if (r < 0)
		return r;
	hash_hmac(alg, span_of(salted, n), SPAN("Client Key"), client);
	hash_hmac(alg, span_of(salted, n), SPAN("Server Key"), k->server_key);
	hash_digest(alg, span_of(client, n), k->stored_key);
	k->iterations = SCRAM_ITERATIONS;
	secret_wipe(salted, sizeof(salted));
	secret_wipe(client, sizeof(client));
	return 0;
}

int scram_derive(span password, unsigned algs, struct credential *c)
{
	_cleanup_(buf_donep) struct buf prepared = BUF_INIT(SASLPREP_MAX * 4);
	int r = 0;
	if (!algs || saslprep(&prepared, password) < 0)
		return 0;
	for (int i = 0; r == 0 && i < HASH_ALGS; i++)
		if (algs & 1u << i)
			r = derive((enum hash_alg)i, buf_span(&prepared), &c->scram[i]);
	if (prepared.p)
		secret_wipe(prepared.p, prepared.cap);
	return r;
}

int scram_put(struct db_tx *tx, span account_id, const struct credential *c)
{
	int r = db_run(tx, "DELETE FROM scram WHERE account = ?", "s", account_id);
	for (int i = 0; c && r >= 0 && i < HASH_ALGS; i++) {
		const struct scram_keys *k = &c->scram[i];
		if (k->iterations)
			r = db_run(tx,
				   "INSERT INTO scram(account, hash, iterations, salt, stored_key,"
				   " server_key) VALUES(?, ?, ?, ?, ?, ?)",
				   "siibbb", account_id, (int64_t)i, (int64_t)k->iterations,
				   span_of(k->salt, sizeof(k->salt)),
				   span_of(k->stored_key, hash_size((enum hash_alg)i)),
				   span_of(k->server_key, hash_size((enum hash_alg)i)));
	}
	return r;
}

int scram_load(struct db_tx *tx, span account_id, struct credential *ret)
{
	struct db_stmt *s = db_sql(tx, "SELECT hash, iterations, salt, stored_key, server_key"
				       " FROM scram WHERE account = ?");
	int r;
	db_bind(s, "s", account_id);
	while ((r = db_step(s)) > 0) {
		int64_t alg = db_col_i64(s, 0);
		if (alg < 0 || alg >= HASH_ALGS)
			continue;
		struct scram_keys *k = &ret->scram[alg];
		k->iterations = (uint32_t)db_col_i64(s, 1);
		col_bytes(s, 2, k->salt, sizeof(k->salt));
		col_bytes(s, 3, k->stored_key, HASH_MAX);
		col_bytes(s, 4, k->server_key, HASH_MAX);
	}
	return r;
}

/* RET = HMAC(secret, WHAT and the normalised LOGIN): the same at each try and after a restart. */
static void made_up(const struct directory *d, span what, span login, uint8_t ret[32])
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(ADDRESS_MAX + 16);
	buf_put_span(&b, what);
	buf_put_char(&b, ':');
	buf_put_span(&b, login);
	hmac_sha256(span_of(d->secret, sizeof(d->secret)), buf_span(&b), ret);
}

int directory_scram_get(struct directory *d, enum hash_alg alg, span login, struct arena *mem,
			struct directory_scram *ret)
{
	struct login_as a = { 0 };
	struct credential c = { 0 };
	struct name_key k;
	const struct scram_keys *keys = &c.scram[alg];
	bool known = login_find(d, login, mem, &a);
	int r = credential_get(d, span_str(a.account.id), &c);
	if (r < 0)
		return r;
	if (known && a.scram && keys->iterations) {
		struct directory_scram v = { .iterations = keys->iterations,
					     .salt = arena_span(
						     mem, span_of(keys->salt, sizeof(keys->salt))),
					     .account = a.account,
					     .real = true };
		memcpy(v.stored_key, keys->stored_key, HASH_MAX);
		memcpy(v.server_key, keys->server_key, HASH_MAX);
		*ret = v;
		return 0;
	}
	span name = span_sub(login, 0, ADDRESS_MAX);
	if (login_parse(d, login, mem, &k) == 0)
		name = k.key;
	struct directory_scram v = { .iterations = SCRAM_ITERATIONS };
	uint8_t salt[HASH_MAX];
	made_up(d, SPAN("salt"), name, salt);
	made_up(d, SPAN("stored"), name, v.stored_key);
	made_up(d, SPAN("server"), name, v.server_key);
	v.salt = arena_span(mem, span_of(salt, sizeof(keys->salt)));
	*ret = v;
	return 0;
}
