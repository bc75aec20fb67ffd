#include "directory/directory_int.h"

#include <crypt.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/id.h"
#include "tls/hash.h"

enum {
	ARGON_OPSLIMIT = 2,
	ARGON_MEMLIMIT = 19 * 1024 * 1024,
};

/* ------------------------------------------------------------------ credentials */

static bool password_usable(span password)
{
	return password.n > 0 && password.n <= PASSWORD_MAX &&
	       span_find(password, '\0') == SPAN_NPOS;
}

static int argon2_make(span password, char ret[crypto_pwhash_STRBYTES])
{
	return crypto_pwhash_str(ret, password.p, password.n, ARGON_OPSLIMIT, ARGON_MEMLIMIT) == 0
		       ? 0
		       : ERR_NOMEM;
}

int credential_make(struct directory *d, span password, struct credential *ret,
		    struct err_info *info)
{
	_Static_assert(crypto_pwhash_STRBYTES <= sizeof(ret->hash), "room for the hash");
	if (!password_usable(password))
		return err_set(info, ERR_INVAL, "a password has 1 to %d bytes and no NUL",
			       PASSWORD_MAX);
	struct credential c = { 0 };
	int r = argon2_make(password, c.hash);
	if (r >= 0)
		r = scram_derive(password, scram_algs(d), &c);
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

int credential_put(struct db_tx *tx, span account_id, const struct credential *c, bool scram)
{
	int r = db_run(tx,
		       "INSERT OR REPLACE INTO credential(account, hash, imported,"
		       " scram_iterations) VALUES(?, ?, ?, 0)",
		       "ssi", account_id, span_str(c->hash), (int64_t)c->imported);
	return r < 0 ? r : scram_put(tx, account_id, scram ? c : NULL);
}

void col_bytes(struct db_stmt *s, int col, void *to, size_t n)
{
	span v = db_col_span(s, col);
	memcpy(to, v.p, MIN(v.n, n));
}

int credential_get(struct directory *d, span account_id, struct credential *ret)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(d->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(tx, "SELECT hash, imported FROM credential WHERE account = ?");
	db_bind(s, "s", account_id);
	r = db_step(s);
	if (r <= 0)
		return r;
	struct credential c = { .imported = db_col_i64(s, 1) != 0 };
	col_bytes(s, 0, c.hash, sizeof(c.hash) - 1);
	db_reset(s);
	r = scram_load(tx, account_id, &c);
	if (r < 0)
		return r;
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
int login_parse(struct directory *d, span login, struct arena *mem, struct name_key *ret)
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

bool login_find(struct directory *d, span login, struct arena *mem, struct login_as *ret)
{
	struct name_key k;
	if (login_parse(d, login, mem, &k) < 0)
		return false;
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->names, k.key);
	bool ok = n && !n->is_alias && !n->account.suspended;
	if (ok) {
		directory_account_copy(n, mem, &ret->account);
		ret->scram = n->dom->v.scram && !n->account.app_only;
	}
	pthread_rwlock_unlock(&d->lock);
	return ok;
}

int directory_login(struct directory *d, span login, struct arena *mem,
		    struct directory_account *ret)
{
	struct login_as a;
	if (!login_find(d, login, mem, &a))
		return ERR_AUTH;
	*ret = a.account;
	return 0;
}

bool directory_is_current(struct directory *d, span account_id, uint64_t generation)
{
	pthread_rwlock_rdlock(&d->lock);
	const struct name *n = map_get(d->ids, account_id);
	bool ok = n && n->account.generation == generation;
	pthread_rwlock_unlock(&d->lock);
	return ok;
}

/* A good plain login is the only time at which a password can be hashed anew: instead of an
 * imported hash, and for SCRAM where its verifiers are not (or no longer) the wanted ones. */
static void renew(struct directory *d, const struct login_as *a, const struct credential *c,
		  span password)
{
	struct credential own;
	unsigned wanted = a->scram ? scram_wanted(d, password) : 0;
	if (!c->imported && scram_present(c) == wanted)
		return;
	/* Not being able to is no reason to refuse a good password. */
	if (credential_make(d, password, &own, NULL) == 0)
		directory_credential_upgrade(d, span_str(a->account.id), a->account.generation,
					     &own);
	secret_wipe(&own, sizeof(own));
}

/* Slow: by the account's hash, or by one that costs the same for whoever has none (P3). */
static int check_main(struct directory *d, const struct login_as *a, bool known, span password)
{
	struct credential c = { 0 };
	/* The database is asked for unknown users too: same path, same time. */
	int r = credential_get(d, span_str(a->account.id), &c);
	if (r < 0)
		return r;
	if (r == 0 || !known || a->account.app_only) {
		known = false;
		c = (struct credential){ 0 };
		memcpy(c.hash, d->dummy_hash, strlen(d->dummy_hash));
	}
	atomic_fetch_add_explicit(&d->hashes, 1, memory_order_relaxed);
	bool good = hash_matches(&c, password) && known;
	if (good)
		renew(d, a, &c, password);
	secret_wipe(&c, sizeof(c));
	/* The account was read before the slow comparison. */
	return good && directory_is_current(d, span_str(a->account.id), a->account.generation)
		       ? 0
		       : ERR_AUTH;
}

int directory_authenticate(struct directory *d, const struct directory_try *t, struct arena *mem,
			   struct directory_account *ret)
{
	struct login_as a = { 0 };
	uint8_t mac[32];
	bool known = login_find(d, t->login, mem, &a);
	cache_mac(d->remembered, &a.account, span_sub(t->password, 0, PASSWORD_MAX), mac);
	bool usable = known && password_usable(t->password);
	int r = usable && (app_matches(d, &a.account, t) ||
			   (!a.account.app_only && cache_knows(d->remembered, mac)))
			? 1
			: check_main(d, &a, known, t->password);
	if (r < 0)
		return r;
	if (r == 0)
		cache_remember(d->remembered, mac);
	*ret = a.account;
	return 0;
}

uint64_t directory_hashes(const struct directory *d)
{
	return atomic_load_explicit(&d->hashes, memory_order_relaxed);
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
	d->remembered = cache_new();
	int r = load_secret(d);
	if (r < 0)
		return err_set(info, r, "the directory's secret cannot be read: %s", err_text(r));
	r = app_load(d);
	if (r < 0)
		return err_set(info, r, "the app passwords cannot be read: %s", err_text(r));
	d->dummy_hash = xcalloc(1, crypto_pwhash_STRBYTES);
	uint8_t nobody[16];
	random_bytes(nobody, sizeof(nobody));
	r = argon2_make(span_of(nobody, sizeof(nobody)), d->dummy_hash);
	return r < 0 ? err_set(info, r, "a password hash cannot be made: %s", err_text(r)) : 0;
}

void credential_done(struct directory *d)
{
	cache_free(d->remembered);
	app_done(d);
	free(d->dummy_hash);
}
