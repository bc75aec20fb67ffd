/* App passwords: made here, shown once, one for each program of a user.
 *
 * They are 120 random bits, so nobody can try them out and a slow hash would add nothing: what is
 * kept is HMAC-SHA-256 under the directory's secret.  All of them are in memory, found by that
 * value, so that a phone's login touches neither argon2id nor the disk; the keyed value tells
 * nothing about what a peer has guessed right.  `app->lock` is taken alone or under `change`. */
#include "directory/directory_int.h"

#include <stdlib.h>

#include "base/id.h"

enum { APP_GROUPS = 6, APP_GROUP = 4, APP_NAME_MAX = 64, APP_PER_ACCOUNT = 100, PEER_MAX = 45 };
/* 32 signs that are not taken for one another. */
static const char alphabet[33] = "abcdefghijkmnpqrstuvwxyz23456789";

struct app {
	uint8_t mac[32]; /* the key it is found by */
	char account[ACCOUNT_ID_LEN + 1];
	span name; /* owned */
	unsigned scope;
	usec created, expires; /* wall; expires 0: never */
	usec used;	       /* wall; 0: never */
	char peer[PEER_MAX + 1];
	bool dirty;   /* `used` and `peer` are not saved */
	bool leaving; /* its removal is being committed */
};

struct app_table {
	pthread_mutex_t lock;
	struct map *all; /* mac -> struct app */
};

static void app_free(struct app *a)
{
	free((void *)a->name.p);
	free(a);
}

/* HMAC of the 24 signs in TEXT; false if TEXT is no app password.  Spaces and dashes between them,
 * and capitals, are how people copy. */
static bool app_mac(const struct directory *d, span text, uint8_t ret[32])
{
	char plain[APP_GROUPS * APP_GROUP];
	size_t n = 0;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c == '-' || c == ' ')
			continue;
		if (c >= 'A' && c <= 'Z')
			c = (char)(c + ('a' - 'A'));
		if (n == sizeof(plain) || !c || !strchr(alphabet, c))
			return false;
		plain[n++] = c;
	}
	if (n != sizeof(plain))
		return false;
	uint8_t key[32];
	hmac_sha256(span_of(d->secret, sizeof(d->secret)), SPAN("app passwords"), key);
	hmac_sha256(span_of(key, sizeof(key)), span_of(plain, n), ret);
	secret_wipe(key, sizeof(key));
	secret_wipe(plain, sizeof(plain));
	return true;
}

bool app_matches(struct directory *d, const struct directory_account *a,
		 const struct directory_try *t)
{
	uint8_t mac[32];
	usec now = clock_wall();
	if (!app_mac(d, t->password, mac))
		return false;
	pthread_mutex_lock(&d->app->lock);
	struct app *p = map_get(d->app->all, span_of(mac, sizeof(mac)));
	bool good = p && strcmp(p->account, a->id) == 0 && (p->scope & t->scope) && !p->leaving &&
		    (!p->expires || p->expires > now);
	if (good) {
		span peer = span_sub(t->peer, 0, PEER_MAX);
		p->used = now;
		if (peer.n)
			memcpy(p->peer, peer.p, peer.n);
		p->peer[peer.n] = '\0';
		p->dirty = true;
	}
	pthread_mutex_unlock(&d->app->lock);
	return good;
}

/* ------------------------------------------------------------------ changes */

static int put_app(struct db_tx *tx, span account_id, void *arg)
{
	const struct app *p = arg;
	return db_run(tx,
		      "INSERT INTO app_password(account, name, mac, scope, created, expires, used,"
		      " peer) VALUES(?, ?, ?, ?, ?, ?, 0, '')",
		      "ssbiii", account_id, p->name, span_of(p->mac, sizeof(p->mac)),
		      (int64_t)p->scope, p->created, p->expires);
}

static bool name_ok(span name)
{
	for (size_t i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] < ' ' || name.p[i] == 0x7f)
			return false;
	return name.n > 0 && name.n <= APP_NAME_MAX;
}

/* App passwords of ACCOUNT, and the one named NAME among them; the lock is held. */
static struct app *find(struct app_table *t, span account, span name, size_t *ret_count)
{
	struct app *found = NULL;
	void *v;
	size_t n = 0;
	for (size_t it = 0; map_next(t->all, &it, NULL, &v);) {
		struct app *p = v;
		if (!span_eq_str(account, p->account))
			continue;
		n++;
		if (span_eq(p->name, name))
			found = p;
	}
	if (ret_count)
		*ret_count = n;
	return found;
}

static void make_up(char ret[DIRECTORY_APP_PASSWORD])
{
	uint8_t random[APP_GROUPS * APP_GROUP];
	size_t n = 0;
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++) {
		if (i && i % APP_GROUP == 0)
			ret[n++] = '-';
		ret[n++] = alphabet[random[i] % 32];
	}
	ret[n] = '\0';
	secret_wipe(random, sizeof(random));
}

int directory_app_password_add(struct directory *d, span address, span name, unsigned scope,
			       usec expires, char ret[DIRECTORY_APP_PASSWORD],
			       struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_account a;
	char text[DIRECTORY_APP_PASSWORD];
	size_t n;
	if (!name_ok(name))
		return err_set(info, ERR_INVAL,
			       "a name has 1 to %d bytes and no control characters", APP_NAME_MAX);
	if (!scope || scope & ~(unsigned)DIRECTORY_ALL_SCOPES)
		return err_set(info, ERR_INVAL, "say for what: smtp, imap, pop3");
	if (directory_account_get(d, address, &mem, &a) < 0)
		return err_set(info, ERR_NOENT, "there is no such account");
	pthread_mutex_lock(&d->app->lock);
	bool taken = find(d->app, span_str(a.id), name, &n);
	pthread_mutex_unlock(&d->app->lock);
	if (taken)
		return err_set(info, ERR_EXIST, "the account has an app password of this name");
	if (n >= APP_PER_ACCOUNT)
		return err_set(info, ERR_TOOBIG, "an account has at most %d app passwords",
			       APP_PER_ACCOUNT);

	struct app *p = xcalloc(1, sizeof(*p));
	*p = (struct app){ .scope = scope, .created = clock_wall(), .expires = expires };
	p->name = span_of(span_dup(name), name.n);
	memcpy(p->account, a.id, sizeof(p->account));
	make_up(text);
	(void)app_mac(d, span_str(text), p->mac);
	int r = directory_account_touch(d, address, put_app, p, info);
	if (r < 0) {
		app_free(p);
		return r;
	}
	pthread_mutex_lock(&d->app->lock);
	map_put(d->app->all, span_of(p->mac, sizeof(p->mac)), p);
	pthread_mutex_unlock(&d->app->lock);
	memcpy(ret, text, sizeof(text));
	secret_wipe(text, sizeof(text));
	return 0;
}

static int delete_app(struct db_tx *tx, span account_id, void *arg)
{
	return db_run(tx, "DELETE FROM app_password WHERE account = ? AND name = ?", "ss",
		      account_id, *(span *)arg);
}

/* Whoever reads the account's next generation must not get in with it any more, so that comes before
 * the commit. */
static bool set_leaving(struct directory *d, span account_id, span name, bool leaving)
{
	pthread_mutex_lock(&d->app->lock);
	struct app *p = find(d->app, account_id, name, NULL);
	if (p)
		p->leaving = leaving;
	pthread_mutex_unlock(&d->app->lock);
	return p;
}

int directory_app_password_remove(struct directory *d, span address, span name,
				  struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_account a;
	if (directory_account_get(d, address, &mem, &a) < 0)
		return err_set(info, ERR_NOENT, "there is no such account");
	if (!set_leaving(d, span_str(a.id), name, true))
		return err_set(info, ERR_NOENT, "the account has no app password of this name");
	int r = directory_account_touch(d, address, delete_app, &name, info);
	if (r < 0) {
		(void)set_leaving(d, span_str(a.id), name, false);
		return r;
	}
	pthread_mutex_lock(&d->app->lock);
	struct app *p = find(d->app, span_str(a.id), name, NULL);
	if (p)
		map_del(d->app->all, span_of(p->mac, sizeof(p->mac)));
	pthread_mutex_unlock(&d->app->lock);
	if (p)
		app_free(p);
	return 0;
}

void app_forget(struct directory *d, span account_id)
{
	void *v;
	pthread_mutex_lock(&d->app->lock);
	for (size_t it = 0; map_next(d->app->all, &it, NULL, &v);) {
		struct app *p = v;
		if (!span_eq_str(account_id, p->account))
			continue;
		map_del(d->app->all, span_of(p->mac, sizeof(p->mac)));
		app_free(p);
	}
	pthread_mutex_unlock(&d->app->lock);
}

static int by_name(const void *a, const void *b)
{
	return span_cmp(((const struct directory_app_password *)a)->name,
			((const struct directory_app_password *)b)->name);
}

int directory_app_passwords(struct directory *d, span address, struct arena *mem,
			    struct directory_app_password **ret, size_t *ret_n)
{
	struct directory_account a;
	size_t n = 0, i = 0;
	void *v;
	if (directory_account_get(d, address, mem, &a) < 0)
		return ERR_NOENT;
	pthread_mutex_lock(&d->app->lock);
	(void)find(d->app, span_str(a.id), SPAN_NULL, &n);
	struct directory_app_password *list = arena_array(mem, struct directory_app_password, n);
	for (size_t it = 0; map_next(d->app->all, &it, NULL, &v);) {
		const struct app *p = v;
		if (strcmp(p->account, a.id) == 0)
			list[i++] = (struct directory_app_password){
				.name = arena_span(mem, p->name),
				.scope = p->scope,
				.created = p->created,
				.expires = p->expires,
				.used = p->used,
				.peer = arena_span(mem, span_str(p->peer)),
			};
	}
	pthread_mutex_unlock(&d->app->lock);
	if (n)
		qsort(list, n, sizeof(*list), by_name);
	*ret = list;
	*ret_n = n;
	return 0;
}

/* ------------------------------------------------------------------ last use */

struct use {
	uint8_t mac[32];
	usec used;
	char peer[PEER_MAX + 1];
};
struct uses {
	struct use *v;
	size_t n;
};

static int write_uses(struct db_tx *tx, void *arg)
{
	const struct uses *u = arg;
	int r = 0;
	for (size_t i = 0; r >= 0 && i < u->n; i++)
		r = db_run(tx, "UPDATE app_password SET used = ?, peer = ? WHERE mac = ?", "isb",
			   u->v[i].used, span_str(u->v[i].peer), span_of(u->v[i].mac, 32));
	return r;
}

/* A commit for each login would cost more than the login; what a crash loses of it is no harm. */
int directory_save_uses(struct directory *d)
{
	struct uses u = { 0 };
	void *v;
	pthread_mutex_lock(&d->app->lock);
	u.v = xcalloc(map_count(d->app->all) + 1, sizeof(*u.v));
	for (size_t it = 0; map_next(d->app->all, &it, NULL, &v);) {
		struct app *p = v;
		if (!p->dirty)
			continue;
		struct use *one = &u.v[u.n++];
		memcpy(one->mac, p->mac, sizeof(one->mac));
		memcpy(one->peer, p->peer, sizeof(one->peer));
		one->used = p->used;
		p->dirty = false;
	}
	pthread_mutex_unlock(&d->app->lock);
	int r = u.n ? db_write(d->db, write_uses, &u) : 0;
	free(u.v);
	return r;
}

/* ------------------------------------------------------------------ start and end */

int app_load(struct directory *d)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	d->app = xcalloc(1, sizeof(*d->app));
	pthread_mutex_init(&d->app->lock, NULL);
	d->app->all = map_new();
	int r = db_read_begin(d->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(tx, "SELECT account, name, mac, scope, created, expires, used,"
				       " peer FROM app_password");
	while ((r = db_step(s)) > 0) {
		struct app *p = xcalloc(1, sizeof(*p));
		col_bytes(s, 0, p->account, ACCOUNT_ID_LEN);
		p->name = span_of(span_dup(db_col_span(s, 1)), db_col_span(s, 1).n);
		col_bytes(s, 2, p->mac, sizeof(p->mac));
		p->scope = (unsigned)db_col_i64(s, 3);
		p->created = db_col_i64(s, 4);
		p->expires = db_col_i64(s, 5);
		p->used = db_col_i64(s, 6);
		col_bytes(s, 7, p->peer, PEER_MAX);
		map_put(d->app->all, span_of(p->mac, sizeof(p->mac)), p);
	}
	return r;
}

void app_done(struct directory *d)
{
	void *v;
	if (!d->app)
		return;
	for (size_t it = 0; map_next(d->app->all, &it, NULL, &v);)
		app_free(v);
	map_free(d->app->all);
	pthread_mutex_destroy(&d->app->lock);
	free(d->app);
}
