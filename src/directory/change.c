#include "directory/directory_int.h"

#include <stdio.h>

#include "base/id.h"

/* Every change: take `change`, check against memory (which nobody else alters meanwhile), commit,
 * then alter memory under the lock for writing.  A failed commit leaves memory as it was. */

int directory_commit(struct directory *d, db_write_fn *fn, void *arg, struct err_info *info)
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
	span name;
	const struct directory_domain *v;
	span catch_all;
};

static int write_domain(struct db_tx *tx, void *arg)
{
	const struct domain_row *w = arg;
	int r = db_run(
		tx,
		"INSERT INTO domain(name, catch_all, from_policy, subaddress, alias_of, unknown_to,"
		" known_only, scram) VALUES(?, ?, ?, ?, ?, ?, ?, ?) "
		"ON CONFLICT(name) DO UPDATE SET catch_all = excluded.catch_all,"
		" from_policy = excluded.from_policy, subaddress = excluded.subaddress,"
		" alias_of = excluded.alias_of, unknown_to = excluded.unknown_to,"
		" known_only = excluded.known_only, scram = excluded.scram",
		"ssiissii", w->name, w->catch_all, (int64_t)w->v->from, (int64_t)w->v->subaddress,
		w->v->alias_of, w->v->unknown_to, (int64_t)w->v->known_only,
		(int64_t)w->v->scram);
	if (r >= 0 && !w->v->scram)
		r = db_run(tx,
			   "DELETE FROM scram WHERE account IN (SELECT a.id FROM account a"
			   " JOIN name n ON n.address = a.address WHERE n.domain = ?)",
			   "s", w->name);
	return r;
}

struct dom *directory_known_domain(struct directory *d, span domain, struct arena *mem,
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

/* The alias domain that leads to NAME, or NULL; `change` is held. */
static const struct dom *led_here(const struct directory *d, span name)
{
	void *dom;
	for (size_t it = 0; map_next(d->domains, &it, NULL, &dom);)
		if (span_eq(((struct dom *)dom)->v.alias_of, name))
			return dom;
	return NULL;
}

/* V as an alias domain called NAME, which may be DOM already. */
static int check_alias_domain(struct directory *d, span name, const struct dom *dom,
			      struct directory_domain *v, struct arena *mem, struct err_info *info)
{
	const struct dom *to = directory_known_domain(d, v->alias_of, mem, info);
	if (!to)
		return err_set(info, ERR_NOENT, "there is no domain here for it to be an alias of");
	if (to == dom || to->v.alias_of.n || led_here(d, name))
		return err_set(info, ERR_INVAL, "an alias domain leads to a domain that is none");
	if (v->catch_all.n || v->unknown_to.n || (dom && dom->n_names))
		return err_set(info, ERR_INVAL,
			       "an alias domain has no accounts, aliases, catch-all or "
			       "unknown-to of its own");
	v->alias_of = to->name;
	return 0;
}

/* Checks V for the domain NAME, which may be DOM already; `change` is held. */
static int check_domain(struct directory *d, span name, const struct dom *dom,
			struct directory_domain *v, struct name_key *ret_catch_all,
			struct arena *mem, struct err_info *info)
{
	*ret_catch_all = (struct name_key){ 0 };
	if (v->catch_all.n && directory_name_parse(v->catch_all, mem, ret_catch_all) < 0)
		return err_set(info, ERR_INVAL, "the catch-all is not a valid address");
	if (v->from < FROM_DEFAULT || v->from > FROM_ANY)
		return err_set(info, ERR_INVAL, "there is no such sender policy");
	if (v->catch_all.n && v->unknown_to.n)
		return err_set(info, ERR_INVAL,
			       "with a catch-all no address is unknown: take one of the two");
	if (v->known_only && !v->unknown_to.n)
		return err_set(info, ERR_INVAL, "only a domain with unknown-to has known-only");
	return v->alias_of.n ? check_alias_domain(d, name, dom, v, mem, info) : 0;
}

int directory_domain_make(struct directory *d, const struct directory_domain *v,
			  struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_domain fresh = *v;
	struct name_key k;
	span name;
	if (directory_domain_parse(v->name, &mem, &name) < 0)
		return err_set(info, ERR_INVAL, "this is not a valid domain name");
	CHANGE_SCOPE(d);
	if (map_get(d->domains, name))
		return err_set(info, ERR_EXIST, "the domain exists already");
	int r = check_domain(d, name, NULL, &fresh, &k, &mem, info);
	struct domain_row row = { .name = name, .v = &fresh, .catch_all = k.text };
	if (r == 0)
		r = directory_commit(d, write_domain, &row, info);
	if (r < 0)
		return r;
	struct dom *dom = directory_dom_new(name);
	dom->v = directory_dom_values(&fresh, &k);
	pthread_rwlock_wrlock(&d->lock);
	map_put(d->domains, dom->name, dom);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

int directory_domain_add(struct directory *d, span domain, struct err_info *info)
{
	struct directory_domain v = { .name = domain, .subaddress = true, .scram = true };
	return directory_domain_make(d, &v, info);
}

int directory_domain_set(struct directory *d, span domain, const struct directory_domain *v,
			 struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct directory_domain fresh = *v;
	struct name_key k;
	CHANGE_SCOPE(d);
	struct dom *dom = directory_known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	int r = check_domain(d, dom->name, dom, &fresh, &k, &mem, info);
	struct domain_row row = { .name = dom->name, .v = &fresh, .catch_all = k.text };
	if (r == 0)
		r = directory_commit(d, write_domain, &row, info);
	if (r < 0)
		return r;
	struct dom_values values = directory_dom_values(&fresh, &k), old;
	pthread_rwlock_wrlock(&d->lock);
	old = dom->v;
	dom->v = values;
	pthread_rwlock_unlock(&d->lock);
	directory_dom_values_done(&old);
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
	struct dom *dom = directory_known_domain(d, domain, &mem, info);
	if (!dom)
		return ERR_NOENT;
	if (dom->n_names)
		return err_set(info, ERR_INVAL, "the domain still has %zu accounts or aliases",
			       dom->n_names);
	if (led_here(d, dom->name))
		return err_set(info, ERR_INVAL, "an alias domain still leads to it");
	if (dom->n_dkim)
		return err_set(info, ERR_INVAL, "the domain still has %zu DKIM keys (dkim key drop)",
			       dom->n_dkim);
	span name = dom->name;
	int r = directory_commit(d, delete_domain, &name, info);
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
	bool scram;			     /* its verifiers are kept */
	account_write_fn *write;	     /* may be NULL */
	void *arg;
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
		r = credential_put(tx, w->id, w->credential, w->scram);
	return r;
}

int directory_new_name(struct directory *d, span address, struct arena *mem,
		       struct name_key *ret_key, struct dom **ret_dom, struct err_info *info)
{
	if (directory_name_parse(address, mem, ret_key) < 0)
		return bad_address(info);
	*ret_dom = map_get(d->domains, span_from(ret_key->key, ret_key->at + 1));
	if (!*ret_dom)
		return err_set(info, ERR_NOENT, "its domain is not served here");
	if ((*ret_dom)->v.alias_of.n)
		return err_set(info, ERR_INVAL, "its domain is an alias of %.*s: add it there",
			       (int)MIN((*ret_dom)->v.alias_of.n, (size_t)255),
			       (*ret_dom)->v.alias_of.p);
	const struct name *n = map_get(d->names, ret_key->key);
	if (n)
		return err_set(info, ERR_EXIST, "the address is taken by an %s",
			       n->is_alias ? "alias" : "account");
	return 0;
}

/* The same for an account, whose name is no pattern. */
static int new_account_name(struct directory *d, span address, struct arena *mem,
			    struct name_key *ret_key, struct dom **ret_dom, struct err_info *info)
{
	int r = directory_new_name(d, address, mem, ret_key, ret_dom, info);
	if (r == 0 && span_find(span_sub(ret_key->key, 0, ret_key->at), '*') != SPAN_NPOS)
		return err_set(info, ERR_INVAL, "only an alias can have a '*' in its name");
	return r;
}

int directory_address_free(struct directory *d, span address, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct name_key k;
	struct dom *dom;
	CHANGE_SCOPE(d);
	return new_account_name(d, address, &mem, &k, &dom, info);
}

void directory_account_id(char ret_id[ACCOUNT_ID_LEN + 1])
{
	snprintf(ret_id, ACCOUNT_ID_LEN + 1, "%016llx", (unsigned long long)random_u64());
}

int directory_account_add_as(struct directory *d, const char id[ACCOUNT_ID_LEN + 1], span address,
			     span password, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct credential c;
	int r = password.n ? credential_make(d, password, &c, info) : 0; /* slow: before the lock */
	if (r < 0)
		return r;
	CHANGE_SCOPE(d);
	struct name_key k;
	struct dom *dom;
	r = new_account_name(d, address, &mem, &k, &dom, info);
	if (r < 0)
		return r;
	struct account_row row = { .id = span_str(id),
				   .address = k.text,
				   .domain = dom->name,
				   .v.generation = 1,
				   .credential = password.n ? &c : NULL,
				   .scram = dom->v.scram };
	r = directory_commit(d, insert_account, &row, info);
	if (r < 0)
		return r;
	struct name *n = directory_name_new(&k, dom);
	memcpy(n->account.id, id, sizeof(n->account.id));
	n->account.generation = 1;
	pthread_rwlock_wrlock(&d->lock);
	directory_name_link(d, n);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

int directory_account_add(struct directory *d, span address, span password,
			  char ret_id[ACCOUNT_ID_LEN + 1], struct err_info *info)
{
	char id[ACCOUNT_ID_LEN + 1];
	directory_account_id(id);
	int r = directory_account_add_as(d, id, address, password, info);
	if (r == 0)
		memcpy(ret_id, id, sizeof(id));
	return r;
}

struct name *directory_known_name(struct directory *d, span address, bool alias, struct arena *mem,
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
		r = scram_put(tx, w->id, NULL);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM app_password WHERE account = ?", "s", w->id);
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
	struct name *n = directory_known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct account_row row = { .id = span_str(n->account.id), .address = n->k.text };
	int r = directory_commit(d, delete_account, &row, info);
	if (r < 0)
		return r;
	memcpy(ret_id, n->account.id, sizeof(n->account.id));
	app_forget(d, span_str(ret_id));
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
		"UPDATE account SET generation = ?, quota_bytes = ?, suspended = ?, from_policy = ?,"
		" app_only = ? WHERE id = ?",
		"uuiiis", w->v.generation, w->v.quota_bytes, (int64_t)w->v.suspended,
		(int64_t)w->v.from, (int64_t)w->v.app_only, w->id);
	if (r >= 0 && w->credential)
		r = credential_put(tx, w->id, w->credential, w->scram);
	if (r >= 0 && w->write)
		r = w->write(tx, w->id, w->arg);
	return r;
}

/* Commits ROW's values as N's new state with the next generation (P4); `change` is held. */
static int change_row(struct directory *d, struct name *n, struct account_row row,
		      struct err_info *info)
{
	row.v.generation = n->account.generation + 1;
	row.id = span_str(n->account.id);
	row.scram = n->dom->v.scram;
	int r = directory_commit(d, update_account, &row, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	n->account = row.v;
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

static int change_account(struct directory *d, struct name *n, struct directory_account v,
			  const struct credential *c, struct err_info *info)
{
	struct account_row row = { .v = v, .credential = c };
	return change_row(d, n, row, info);
}

int directory_account_touch(struct directory *d, span address, account_write_fn *write, void *arg,
			    struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = directory_known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct account_row row = { .v = n->account, .write = write, .arg = arg };
	return change_row(d, n, row, info);
}

static int change_credential(struct directory *d, span address, const struct credential *c,
			     struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = directory_known_name(d, address, false, &mem, info);
	return n ? change_account(d, n, n->account, c, info) : ERR_NOENT;
}

int directory_account_passwd(struct directory *d, span address, span password,
			     struct err_info *info)
{
	struct credential c;
	int r = credential_make(d, password, &c, info);
	return r < 0 ? r : change_credential(d, address, &c, info);
}

int directory_account_import_hash(struct directory *d, span address, span crypt_hash,
				  struct err_info *info)
{
	struct credential c;
	int r = credential_import(crypt_hash, &c, info);
	return r < 0 ? r : change_credential(d, address, &c, info);
}

/* Commits ADDRESS's account with one value changed by SET. */
static int change_value(struct directory *d, span address,
			void (*set)(struct directory_account *v, uint64_t to), uint64_t to,
			struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	CHANGE_SCOPE(d);
	struct name *n = directory_known_name(d, address, false, &mem, info);
	if (!n)
		return ERR_NOENT;
	struct directory_account v = n->account;
	set(&v, to);
	return change_account(d, n, v, NULL, info);
}

static void set_from(struct directory_account *v, uint64_t to)
{
	v->from = (enum from_policy)to;
}

static void set_suspended(struct directory_account *v, uint64_t to)
{
	v->suspended = to;
}

static void set_app_only(struct directory_account *v, uint64_t to)
{
	v->app_only = to;
}

static void set_quota(struct directory_account *v, uint64_t to)
{
	v->quota_bytes = to;
}

int directory_account_set_from(struct directory *d, span address, enum from_policy p,
			       struct err_info *info)
{
	if (p < FROM_DEFAULT || p > FROM_ANY)
		return err_set(info, ERR_INVAL, "there is no such sender policy");
	return change_value(d, address, set_from, p, info);
}

int directory_account_set_suspended(struct directory *d, span address, bool suspended,
				    struct err_info *info)
{
	return change_value(d, address, set_suspended, suspended, info);
}

int directory_account_set_app_only(struct directory *d, span address, bool app_only,
				   struct err_info *info)
{
	return change_value(d, address, set_app_only, app_only, info);
}

int directory_account_set_quota(struct directory *d, span address, uint64_t bytes,
				struct err_info *info)
{
	if (bytes > INT64_MAX)
		return err_set(info, ERR_INVAL, "the quota is too large");
	return change_value(d, address, set_quota, bytes, info);
}

struct upgrade {
	span id;
	const struct credential *c;
	bool scram;
};

static int write_credential(struct db_tx *tx, void *arg)
{
	const struct upgrade *w = arg;
	return credential_put(tx, w->id, w->c, w->scram);
}

int directory_credential_upgrade(struct directory *d, span id, uint64_t generation,
				 const struct credential *c)
{
	CHANGE_SCOPE(d);
	const struct name *n = map_get(d->ids, id);
	if (!n || n->account.generation != generation)
		return ERR_AGAIN;
	struct upgrade w = { .id = id, .c = c, .scram = n->dom->v.scram };
	return db_write(d->db, write_credential, &w);
}
