#include "directory/directory_int.h"

#include <crypt.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/id.h"
#include "tls/hash.h"

enum {
	ARGON_OPSLIMIT = 2,
	ARGON_MEMLIMIT = 19 * 1024 * 1024,
	SCRAM_ITERATIONS = 10000, /* RFC 7677 section 4 asks for at least 4,096 */
	PASSWORD_MAX = 1024,
};

/* ------------------------------------------------------------------ remembered passwords
 *
 * A phone logs in every few minutes; argon2id each time would cost more than all its mail.  A good
 * password leaves HMAC(process key, account, generation, password), so that a changed account
 * matches nothing any more.  Four-way sets, the oldest is replaced: bounded, and no failure is
 * kept. */

enum { CACHE_SETS = 1024, CACHE_WAYS = 4 };
static const usec cache_life = 600 * USEC_SEC;

struct auth_cache {
	pthread_mutex_t lock;
	uint8_t key[32];
	struct cache_entry {
		uint8_t mac[32];
		usec until; /* monotonic; 0: empty */
	} set[CACHE_SETS][CACHE_WAYS];
};

static void cache_mac(const struct auth_cache *c, const struct directory_account *a, span password,
		      uint8_t ret[32])
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(PASSWORD_MAX + 64);
	buf_put(&b, a->id, ACCOUNT_ID_LEN);
	buf_put_le64(&b, a->generation);
	buf_put_span(&b, password);
	hmac_sha256(span_of(c->key, sizeof(c->key)), buf_span(&b), ret);
	secret_wipe(b.p, b.n);
}

static struct cache_entry *cache_set(struct auth_cache *c, const uint8_t mac[32])
{
	return c->set[(mac[0] | mac[1] << 8) % CACHE_SETS];
}

static bool cache_knows(struct auth_cache *c, const uint8_t mac[32])
{
	usec now = clock_mono();
	bool known = false;
	pthread_mutex_lock(&c->lock);
	const struct cache_entry *e = cache_set(c, mac);
	for (int i = 0; i < CACHE_WAYS; i++)
		known |= e[i].until > now && secret_eq(e[i].mac, mac, 32);
	pthread_mutex_unlock(&c->lock);
	return known;
}

static void cache_remember(struct auth_cache *c, const uint8_t mac[32])
{
	pthread_mutex_lock(&c->lock);
	struct cache_entry *e = cache_set(c, mac), *oldest = e;
	for (int i = 1; i < CACHE_WAYS; i++)
		if (e[i].until < oldest->until)
			oldest = &e[i];
	memcpy(oldest->mac, mac, 32);
	oldest->until = clock_mono() + cache_life;
	pthread_mutex_unlock(&c->lock);
}

/* ------------------------------------------------------------------ credentials */

static bool password_usable(span password)
{
	return password.n > 0 && password.n <= PASSWORD_MAX &&
	       span_find(password, '\0') == SPAN_NPOS;
}

/* The keys of RFC 5802 section 3. */
static int scram_derive(span password, struct credential *c)
{
	uint8_t salted[32], client[32];
	random_bytes(c->scram_salt, sizeof(c->scram_salt));
	int r = pbkdf2_sha256(password, span_of(c->scram_salt, sizeof(c->scram_salt)),
			      SCRAM_ITERATIONS, salted);
	if (r < 0)
		return r;
	c->scram_iterations = SCRAM_ITERATIONS;
	hmac_sha256(span_of(salted, 32), SPAN("Client Key"), client);
	hmac_sha256(span_of(salted, 32), SPAN("Server Key"), c->server_key);
	sha256(span_of(client, 32), c->stored_key);
	secret_wipe(salted, sizeof(salted));
	secret_wipe(client, sizeof(client));
	return 0;
}

static int argon2_make(span password, char ret[crypto_pwhash_STRBYTES])
{
	return crypto_pwhash_str(ret, password.p, password.n, ARGON_OPSLIMIT, ARGON_MEMLIMIT) == 0
		       ? 0
		       : ERR_NOMEM;
}

int credential_make(span password, struct credential *ret, struct err_info *info)
{
	_Static_assert(crypto_pwhash_STRBYTES <= sizeof(ret->hash), "room for the hash");
	if (!password_usable(password))
		return err_set(info, ERR_INVAL, "a password has 1 to %d bytes and no NUL",
			       PASSWORD_MAX);
	struct credential c = { 0 };
	int r = argon2_make(password, c.hash);
	if (r >= 0)
		r = scram_derive(password, &c);
	if (r < 0)
		return err_set(info, r, "the password could not be hashed: %s", err_text(r));
	*ret = c;
	return 0;
}

int credential_import(span text, struct credential *ret, struct err_info *info)
{
	struct credential c = { .imported = true };
	text = span_trim(text);
	if (text.n && text.p[0] == '{') { /* "{SHA512-CRYPT}$6$...": other servers' scheme prefix */
		size_t end = span_find(text, '}');
		text = end == SPAN_NPOS ? SPAN_NULL : span_from(text, end + 1);
	}
	if (text.n < 2 || text.n >= sizeof(c.hash) || text.p[0] != '$' ||
	    span_find(text, '\0') != SPAN_NPOS)
		return err_set(info, ERR_INVAL, "this is not a crypt(3) hash");
	memcpy(c.hash, text.p, text.n);
	if (!span_starts(text, SPAN("$argon2id$"))) {
		int salt = crypt_checksalt(c.hash);
		if (salt == CRYPT_SALT_INVALID || salt == CRYPT_SALT_METHOD_DISABLED)
			return err_set(info, ERR_INVAL, "this hash scheme is not supported");
	} else if (crypto_pwhash_str_needs_rehash(c.hash, ARGON_OPSLIMIT, ARGON_MEMLIMIT) < 0) {
		return err_set(info, ERR_INVAL, "this is not a complete argon2id hash");
	}
	*ret = c;
	return 0;
}

int credential_put(struct db_tx *tx, span account_id, const struct credential *c)
{
	return db_run(tx,
		      "INSERT OR REPLACE INTO credential(account, hash, imported, "
		      "scram_iterations, scram_salt,"
		      " stored_key, server_key) VALUES(?, ?, ?, ?, ?, ?, ?)",
		      "ssiibbb", account_id, span_str(c->hash), (int64_t)c->imported,
		      (int64_t)c->scram_iterations, span_of(c->scram_salt, sizeof(c->scram_salt)),
		      span_of(c->stored_key, 32), span_of(c->server_key, 32));
}

static void col_bytes(struct db_stmt *s, int col, void *to, size_t n)
{
	span v = db_col_span(s, col);
	memcpy(to, v.p, MIN(v.n, n));
}

/* 1: *RET is set; 0: the account has none. */
static int credential_get(struct directory *d, span account_id, struct credential *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(d->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(
		tx, "SELECT hash, imported, scram_iterations, scram_salt, stored_key, server_key"
		    " FROM credential WHERE account = ?");
	db_bind(s, "s", account_id);
	r = db_step(s);
	if (r <= 0)
		return r;
	struct credential c = { .imported = db_col_i64(s, 1) != 0,
				.scram_iterations = (uint32_t)db_col_i64(s, 2) };
	col_bytes(s, 0, c.hash, sizeof(c.hash) - 1);
	col_bytes(s, 3, c.scram_salt, sizeof(c.scram_salt));
	col_bytes(s, 4, c.stored_key, 32);
	col_bytes(s, 5, c.server_key, 32);
	db_reset(s);
	*ret = c;
	return 1;
}

static bool crypt_matches(const char *hash, span password)
{
	char *z = span_dup(password);
	void *data = NULL;
	int size = 0;
	const char *made = crypt_ra(z, hash, &data, &size);
	size_t n = strlen(hash);
	bool good = made && strlen(made) == n && secret_eq(made, hash, n);
	secret_wipe(z, password.n);
	free(z);
	if (data)
		secret_wipe(data, (size_t)size);
	free(data);
	return good;
}

/* Slow.  An unusable password is compared too, cut to size, so that it costs the same. */
static bool hash_matches(const struct credential *c, span password)
{
	bool usable = password_usable(password), good;
	password = span_sub(password, 0, PASSWORD_MAX);
	if (c->imported && !span_starts(span_str(c->hash), SPAN("$argon2id$")))
		good = crypt_matches(c->hash, password);
	else
		good = crypto_pwhash_str_verify(c->hash, password.p ? password.p : "",
						password.n) == 0;
	return good && usable;
}

/* ------------------------------------------------------------------ login */

/* The address LOGIN stands for: itself, or with only one domain its local part. */
static int login_parse(struct directory *d, span login, struct arena *mem, struct name_key *ret)
{
	if (login.n > ADDRESS_MAX)
		return ERR_AUTH;
	if (span_find(login, '@') == SPAN_NPOS) {
		span domain = SPAN_NULL;
		void *v;
		size_t it = 0;
		pthread_rwlock_rdlock(&d->lock);
		if (map_count(d->domains) == 1 && map_next(d->domains, &it, NULL, &v))
			domain = arena_span(mem, ((const struct dom *)v)->name);
		pthread_rwlock_unlock(&d->lock);
		if (!domain.n)
			return ERR_AUTH;
		char *text = arena_alloc(mem, login.n + 1 + domain.n);
		memcpy(text, login.p, login.n);
		text[login.n] = '@';
		memcpy(text + login.n + 1, domain.p, domain.n);
		login = span_of(text, login.n + 1 + domain.n);
	}
	return directory_name_parse(login, mem, ret) < 0 ? ERR_AUTH : 0;
}

/* The account that may log in as LOGIN; false if none may. */
static bool login_account(struct directory *d, span login, struct arena *mem,
			  struct directory_account *ret)
{
	struct name_key k;
	if (login_parse(d, login, mem, &k) < 0)
		return false;
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->names, k.key);
	bool ok = n && !n->is_alias && !n->account.suspended;
	if (ok)
		directory_account_copy(n, mem, ret);
	pthread_rwlock_unlock(&d->lock);
	return ok;
}

/* Is A, read before the slow comparison, still what the account is? */
static bool still_valid(struct directory *d, const struct directory_account *a)
{
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->ids, span_str(a->id));
	bool ok = n && n->account.generation == a->generation;
	pthread_rwlock_unlock(&d->lock);
	return ok;
}

int directory_authenticate(struct directory *d, span login, span password, struct arena *mem,
			   struct directory_account *ret)
{
	struct directory_account a = { 0 };
	struct credential c = { 0 };
	uint8_t mac[32];
	bool known = login_account(d, login, mem, &a);
	cache_mac(d->remembered, &a, span_sub(password, 0, PASSWORD_MAX), mac);
	if (known && password_usable(password) && cache_knows(d->remembered, mac)) {
		*ret = a;
		return 0;
	}
	/* The database is asked for unknown users too: same path, same time (P3). */
	int r = credential_get(d, span_str(a.id), &c);
	if (r < 0)
		return r;
	if (r == 0 || !known) {
		known = false;
		c = (struct credential){ 0 };
		memcpy(c.hash, d->dummy_hash, strlen(d->dummy_hash));
	}
	atomic_fetch_add_explicit(&d->hashes, 1, memory_order_relaxed);
	bool good = hash_matches(&c, password) && known;
	if (good && c.imported) {
		/* Not being able to upgrade is no reason to refuse a good password. */
		struct credential own;
		if (credential_make(password, &own, NULL) == 0)
			directory_credential_upgrade(d, span_str(a.id), a.generation, &own);
		secret_wipe(&own, sizeof(own));
	}
	secret_wipe(&c, sizeof(c));
	if (!good || !still_valid(d, &a))
		return ERR_AUTH;
	cache_remember(d->remembered, mac);
	*ret = a;
	return 0;
}

uint64_t directory_hashes(const struct directory *d)
{
	return atomic_load_explicit(&d->hashes, memory_order_relaxed);
}

/* RET = HMAC(secret, WHAT and the normalised LOGIN): the same at each try and after a restart. */
static void made_up(const struct directory *d, span what, span login, uint8_t ret[32])
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(PASSWORD_MAX);
	buf_put_span(&b, what);
	buf_put_char(&b, ':');
	buf_put_span(&b, login);
	hmac_sha256(span_of(d->secret, sizeof(d->secret)), buf_span(&b), ret);
}

int directory_scram_get(struct directory *d, span login, struct arena *mem,
			struct directory_scram *ret)
{
	struct directory_account a = { 0 };
	struct credential c = { 0 };
	struct name_key k;
	bool known = login_account(d, login, mem, &a);
	int r = credential_get(d, span_str(a.id), &c);
	if (r < 0)
		return r;
	if (known && r > 0 && c.scram_iterations) {
		struct directory_scram v = { .iterations = c.scram_iterations,
					     .salt = arena_span(mem, span_of(c.scram_salt,
									     sizeof(c.scram_salt))),
					     .real = true };
		memcpy(v.stored_key, c.stored_key, 32);
		memcpy(v.server_key, c.server_key, 32);
		*ret = v;
		return 0;
	}
	span name = span_sub(login, 0, ADDRESS_MAX);
	if (login_parse(d, login, mem, &k) == 0)
		name = k.key;
	struct directory_scram v = { .iterations = SCRAM_ITERATIONS };
	uint8_t salt[32];
	made_up(d, SPAN("salt"), name, salt);
	made_up(d, SPAN("stored"), name, v.stored_key);
	made_up(d, SPAN("server"), name, v.server_key);
	v.salt = arena_span(mem, span_of(salt, sizeof(c.scram_salt)));
	*ret = v;
	return 0;
}

/* ------------------------------------------------------------------ start and end */

static int keep_secret(struct db_tx *tx, void *arg)
{
	return db_run(tx, "INSERT OR IGNORE INTO secret(what, value) VALUES('made-up', ?)", "b",
		      span_of(arg, sizeof(((struct directory *)0)->secret)));
}

static int load_secret(struct directory *d)
{
	uint8_t fresh[sizeof(d->secret)];
	random_bytes(fresh, sizeof(fresh));
	int r = db_write(d->db, keep_secret, fresh);
	if (r < 0)
		return r;
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	r = db_read_begin(d->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(tx, "SELECT value FROM secret WHERE what = 'made-up'");
	r = db_step(s);
	if (r <= 0)
		return r < 0 ? r : ERR_CORRUPT;
	col_bytes(s, 0, d->secret, sizeof(d->secret));
	db_reset(s);
	return 0;
}

int credential_setup(struct directory *d, struct err_info *info)
{
	if (sodium_init() < 0)
		return err_set(info, ERR_INTERNAL, "libsodium does not start");
	d->remembered = xcalloc(1, sizeof(*d->remembered));
	pthread_mutex_init(&d->remembered->lock, NULL);
	random_bytes(d->remembered->key, sizeof(d->remembered->key));
	int r = load_secret(d);
	if (r < 0)
		return err_set(info, r, "the directory's secret cannot be read: %s", err_text(r));
	d->dummy_hash = xcalloc(1, crypto_pwhash_STRBYTES);
	uint8_t nobody[16];
	random_bytes(nobody, sizeof(nobody));
	r = argon2_make(span_of(nobody, sizeof(nobody)), d->dummy_hash);
	return r < 0 ? err_set(info, r, "a password hash cannot be made: %s", err_text(r)) : 0;
}

void credential_done(struct directory *d)
{
	if (d->remembered)
		pthread_mutex_destroy(&d->remembered->lock);
	free(d->remembered);
	free(d->dummy_hash);
}
