#include "directory/directory_int.h"

#include <stdio.h>

#include "base/id.h"

/* Every change: take `change`, check against memory (which nobody else alters meanwhile), commit,
 * then alter memory under the lock for writing.  A failed commit leaves memory as it was. */

static void unlock_mutex(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}
#define CHANGE_SCOPE(d)                                                 \
	_cleanup_(unlock_mutex) _unused_ pthread_mutex_t *change_held = \
		(pthread_mutex_lock(&(d)->change), &(d)->change)

static int commit(struct directory *d, db_write_fn *fn, void *arg, struct err_info *info)
{
	int r = db_write(d->db, fn, arg);
	return r < 0 ? err_set(info, r, "the change could not be saved: %s", err_text(r)) : 0;
}

static int bad_address(struct err_info *info)
{
	return err_set(info, ERR_INVAL, "this is not a valid address");
}

/* ------------------------------------------------------------------ domains */

struct domain_row {
	span name, catch_all;
	enum from_policy from;
	bool subaddress;
};

static int write_domain(struct db_tx *tx, void *arg)
{
	const struct domain_row *w = arg;
	return db_run(
		tx,
		"INSERT INTO domain(name, catch_all, from_policy, subaddress) VALUES(?, ?, ?, ?) "
		"ON CONFLICT(name) DO UPDATE SET catch_all = excluded.catch_all,"
		" from_policy = excluded.from_policy, subaddress = excluded.subaddress",
		"ssii", w->name, w->catch_all, (int64_t)w->from, (int64_t)w->subaddress);
}

int directory_domain_add(struct directory *d, span domain, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct domain_row row = { .subaddress = true };
	if (directory_domain_parse(domain, &mem, &row.name) < 0)
		return err_set(info, ERR_INVAL, "this is not a valid domain name");
	CHANGE_SCOPE(d);
	if (map_get(d->domains, row.name))
		return err_set(info, ERR_EXIST, "the domain exists already");
	int r = commit(d, write_domain, &row, info);
	if (r < 0)
		return r;
	struct dom *dom = directory_dom_new(row.name);
	pthread_rwlock_wrlock(&d->lock);
	map_put(d->domains, dom->name, dom);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

static struct dom *known_domain(struct directory *d, span domain, struct arena *mem,
				struct err_info *info)
{
	span name;
	struct dom *dom = NULL;
	if (directory_domain_parse(domain, mem, &name) == 0)
		dom = map_get(d->domains, name);
	if (!dom)
		err_set(info, ERR_NOENT, "there is no such domain here");
	return dom;
}

int directory_domain_set(struct directory *d, span domain, const struct directory_domain *v,
			 struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct dom *dom = known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	struct name_key k = { 0 };
	if (v->catch_all.n && directory_name_parse(v->catch_all, &mem, &k) < 0)
		return err_set(info, ERR_INVAL, "the catch-all is not a valid address");
	if (v->from < FROM_DEFAULT || v->from > FROM_ANY)
		return err_set(info, ERR_INVAL, "there is no such sender policy");
	struct domain_row row = {
		.name = dom->name, .catch_all = k.text, .from = v->from, .subaddress = v->subaddress
	};
	int r = commit(d, write_domain, &row, info);
	if (r < 0)
		return r;
	struct name_key fresh = k.key.n ? directory_key_dup(&k) : (struct name_key){ 0 };
	pthread_rwlock_wrlock(&d->lock);
	struct name_key old = dom->catch_all;
	dom->catch_all = fresh;
	dom->from = v->from;
	dom->subaddress = v->subaddress;
	pthread_rwlock_unlock(&d->lock);
	directory_key_done(&old);
	return 0;
}

static int delete_domain(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM domain WHERE name = ?", "s", *(span *)arg);
}

int directory_domain_remove(struct directory *d, span domain, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct dom *dom = known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	if (dom->n_names)
		return err_set(info, ERR_INVAL, "the domain still has %zu accounts or aliases",
			       dom->n_names);
	span name = dom->name;
	int r = commit(d, delete_domain, &name, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	map_del(d->domains, dom->name);
	pthread_rwlock_unlock(&d->lock);
	directory_dom_free(dom);
	return 0;
}

/* ------------------------------------------------------------------ accounts */

struct account_row {
	span id, address, domain;
	struct directory_account v;	     /* the values to write; .address is not used */
	const struct credential *credential; /* NULL: leave it */
};

static int insert_account(struct db_tx *tx, void *arg)
{
	const struct account_row *w = arg;
	int r = db_run(tx, "INSERT INTO name(address, domain) VALUES(?, ?)", "ss", w->address,
		       w->domain);
	if (r >= 0)
		r = db_run(tx,
			   "INSERT INTO account(id, address, generation, quota_bytes, suspended, "
			   "from_policy)"
			   " VALUES(?, ?, ?, 0, 0, 0)",
			   "ssu", w->id, w->address, w->v.generation);
	if (r >= 0 && w->credential)
		r = credential_put(tx, w->id, w->credential);
	return r;
}

/* A name that is free in a domain that is ours. */
static int new_name(struct directory *d, span address, struct arena *mem, struct name_key *ret_key,
		    struct dom **ret_dom, struct err_info *info)
{
	if (directory_name_parse(address, mem, ret_key) < 0)
		return bad_address(info);
	*ret_dom = map_get(d->domains, span_from(ret_key->key, ret_key->at + 1));
	if (!*ret_dom)
		return err_set(info, ERR_NOENT, "its domain is not served here");
	const struct name *n = map_get(d->names, ret_key->key);
	if (n)
		return err_set(info, ERR_EXIST, "the address is taken by an %s",
			       n->is_alias ? "alias" : "account");
	return 0;
}

int directory_account_add(struct directory *d, span address, span password,
			  char ret_id[ACCOUNT_ID_LEN + 1], struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct credential c;
	int r = password.n ? credential_make(password, &c, info) : 0; /* slow: before the lock */
	if (r < 0)
		return r;
	CHANGE_SCOPE(d);
	struct name_key k;
	struct dom *dom;
	r = new_name(d, address, &mem, &k, &dom, info);
	if (r < 0)
		return r;
	char id[ACCOUNT_ID_LEN + 1];
	snprintf(id, sizeof(id), "%016llx", (unsigned long long)random_u64());
	struct account_row row = { .id = span_str(id),
				   .address = k.text,
				   .domain = dom->name,
				   .v.generation = 1,
				   .credential = password.n ? &c : NULL };
	r = commit(d, insert_account, &row, info);
	if (r < 0)
		return r;
	struct name *n = directory_name_new(&k, dom);
	memcpy(n->account.id, id, sizeof(id));
	n->account.generation = 1;
	pthread_rwlock_wrlock(&d->lock);
	directory_name_link(d, n);
	pthread_rwlock_unlock(&d->lock);
	memcpy(ret_id, id, sizeof(id));
	return 0;
}

static struct name *known_name(struct directory *d, span address, bool alias, struct arena *mem,
			       struct err_info *info)
{
	struct name_key k;
	struct name *n = NULL;
	if (directory_name_parse(address, mem, &k) == 0)
		n = map_get(d->names, k.key);
	if (n && n->is_alias != alias)
		n = NULL;
	if (!n)
		err_set(info, ERR_NOENT, "there is no such %s", alias ? "alias" : "account");
	return n;
}

static int delete_account(struct db_tx *tx, void *arg)
{
	const struct account_row *w = arg;
	int r = db_run(tx, "DELETE FROM credential WHERE account = ?", "s", w->id);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM account WHERE id = ?", "s", w->id);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM name WHERE address = ?", "s", w->address);
	return r;
}

int directory_account_remove(struct directory *d, span address, char ret_id[ACCOUNT_ID_LEN + 1],
			     struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct account_row row = { .id = span_str(n->account.id), .address = n->k.text };
	int r = commit(d, delete_account, &row, info);
	if (r < 0)
		return r;
	memcpy(ret_id, n->account.id, sizeof(n->account.id));
	pthread_rwlock_wrlock(&d->lock);
	directory_name_unlink(d, n);
	pthread_rwlock_unlock(&d->lock);
	directory_name_free(n);
	return 0;
}

static int update_account(struct db_tx *tx, void *arg)
{
	const struct account_row *w = arg;
	int r = db_run(
		tx,
		"UPDATE account SET generation = ?, quota_bytes = ?, suspended = ?, from_policy = ?"
		" WHERE id = ?",
		"uuiis", w->v.generation, w->v.quota_bytes, (int64_t)w->v.suspended,
		(int64_t)w->v.from, w->id);
	if (r >= 0 && w->credential)
		r = credential_put(tx, w->id, w->credential);
	return r;
}

/* Commits V and C as N's new state with the next generation (P4); `change` is held. */
static int change_account(struct directory *d, struct name *n, struct directory_account v,
			  const struct credential *c, struct err_info *info)
{
	v.generation = n->account.generation + 1;
	struct account_row row = { .id = span_str(n->account.id), .v = v, .credential = c };
	int r = commit(d, update_account, &row, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	n->account = v;
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

static int change_credential(struct directory *d, span address, const struct credential *c,
			     struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, false, &mem, info);
	return n ? change_account(d, n, n->account, c, info) : ERR_NOENT;
}

int directory_account_passwd(struct directory *d, span address, span password,
			     struct err_info *info)
{
	struct credential c;
	int r = credential_make(password, &c, info);
	return r < 0 ? r : change_credential(d, address, &c, info);
}

int directory_account_import_hash(struct directory *d, span address, span crypt_hash,
				  struct err_info *info)
{
	struct credential c;
	int r = credential_import(crypt_hash, &c, info);
	return r < 0 ? r : change_credential(d, address, &c, info);
}

int directory_account_set_from(struct directory *d, span address, enum from_policy p,
			       struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	if (p < FROM_DEFAULT || p > FROM_ANY)
		return err_set(info, ERR_INVAL, "there is no such sender policy");
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct directory_account v = n->account;
	v.from = p;
	return change_account(d, n, v, NULL, info);
}

int directory_account_set_suspended(struct directory *d, span address, bool suspended,
				    struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct directory_account v = n->account;
	v.suspended = suspended;
	return change_account(d, n, v, NULL, info);
}

int directory_account_set_quota(struct directory *d, span address, uint64_t bytes,
				struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	if (bytes > INT64_MAX)
		return err_set(info, ERR_INVAL, "the quota is too large");
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct directory_account v = n->account;
	v.quota_bytes = bytes;
	return change_account(d, n, v, NULL, info);
}

struct upgrade {
	span id;
	const struct credential *c;
};

static int write_credential(struct db_tx *tx, void *arg)
{
	const struct upgrade *w = arg;
	return credential_put(tx, w->id, w->c);
}

int directory_credential_upgrade(struct directory *d, span id, uint64_t generation,
				 const struct credential *c)
{
	CHANGE_SCOPE(d);
	const struct name *n = map_get(d->ids, id);
	if (!n || n->account.generation != generation)
		return ERR_AGAIN;
	struct upgrade w = { .id = id, .c = c };
	return db_write(d->db, write_credential, &w);
}

/* ------------------------------------------------------------------ aliases */

struct alias_row {
	span address, domain;
	const struct name_key *targets;
	size_t n;
};

static int insert_alias(struct db_tx *tx, void *arg)
{
	const struct alias_row *w = arg;
	int r = db_run(tx, "INSERT INTO name(address, domain) VALUES(?, ?)", "ss", w->address,
		       w->domain);
	for (size_t i = 0; r >= 0 && i < w->n; i++)
		r = db_run(tx,
			   "INSERT INTO alias_target(address, position, target) VALUES(?, ?, ?)",
			   "sis", w->address, (int64_t)i, w->targets[i].text);
	return r;
}

int directory_alias_add(struct directory *d, span address, const span *targets, size_t n,
			struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	if (n == 0 || n > ALIAS_TARGETS_MAX)
		return err_set(info, ERR_INVAL, "an alias has 1 to %d targets", ALIAS_TARGETS_MAX);
	struct name_key *keys = arena_array(&mem, struct name_key, n);
	for (size_t i = 0; i < n; i++)
		if (directory_name_parse(targets[i], &mem, &keys[i]) < 0)
			return err_set(info, ERR_INVAL, "target %zu is not a valid address", i + 1);
	CHANGE_SCOPE(d);
	struct name_key k;
	struct dom *dom;
	int r = new_name(d, address, &mem, &k, &dom, info);
	if (r < 0)
		return r;
	struct alias_row row = { .address = k.text, .domain = dom->name, .targets = keys, .n = n };
	r = commit(d, insert_alias, &row, info);
	if (r < 0)
		return r;
	struct name *a = directory_name_new(&k, dom);
	a->is_alias = true;
	a->n_targets = n;
	a->targets = xcalloc(n, sizeof(*a->targets));
	for (size_t i = 0; i < n; i++)
		a->targets[i] = directory_key_dup(&keys[i]);
	pthread_rwlock_wrlock(&d->lock);
	directory_name_link(d, a);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

static int delete_alias(struct db_tx *tx, void *arg)
{
	const span *address = arg;
	int r = db_run(tx, "DELETE FROM alias_target WHERE address = ?", "s", *address);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM name WHERE address = ?", "s", *address);
	return r;
}

int directory_alias_remove(struct directory *d, span address, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = known_name(d, address, true, &mem, info);
	if (!n)
		return ERR_NOENT;
	span text = n->k.text;
	int r = commit(d, delete_alias, &text, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	directory_name_unlink(d, n);
	pthread_rwlock_unlock(&d->lock);
	directory_name_free(n);
	return 0;
}
