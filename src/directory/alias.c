/* Changes of aliases. */
#include "directory/directory_int.h"

struct alias_row {
	span address, domain;
	const struct directory_alias *v;
	const struct name_key *targets;
};

static int insert_targets(struct db_tx *tx, const struct alias_row *w)
{
	int r = 0;
	for (size_t i = 0; r >= 0 && i < w->v->n_targets; i++)
		r = db_run(tx,
			   "INSERT INTO alias_target(address, position, target) VALUES(?, ?, ?)",
			   "sis", w->address, (int64_t)i, w->targets[i].text);
	return r;
}

static int insert_alias(struct db_tx *tx, void *arg)
{
	const struct alias_row *w = arg;
	int r = db_run(
		tx, "INSERT INTO name(address, domain, priority, senders) VALUES(?, ?, ?, ?)",
		"ssii", w->address, w->domain, (int64_t)w->v->priority, (int64_t)w->v->senders);
	return r < 0 ? r : insert_targets(tx, w);
}

static int replace_alias(struct db_tx *tx, void *arg)
{
	const struct alias_row *w = arg;
	int r = db_run(tx, "UPDATE name SET priority = ?, senders = ? WHERE address = ?", "iis",
		       (int64_t)w->v->priority, (int64_t)w->v->senders, w->address);
	if (r >= 0)
		r = db_run(tx, "DELETE FROM alias_target WHERE address = ?", "s", w->address);
	return r < 0 ? r : insert_targets(tx, w);
}

static int parse_targets(const struct directory_alias *v, struct arena *mem, struct name_key **ret,
			 struct err_info *info)
{
	if (v->n_targets == 0 || v->n_targets > ALIAS_TARGETS_MAX)
		return err_set(info, ERR_INVAL, "an alias has 1 to %d targets", ALIAS_TARGETS_MAX);
	*ret = arena_array(mem, struct name_key, v->n_targets);
	for (size_t i = 0; i < v->n_targets; i++)
		if (directory_name_parse(v->targets[i], mem, &(*ret)[i]) < 0)
			return err_set(info, ERR_INVAL, "target %zu is not a valid address", i + 1);
	return 0;
}

/* What goes together.  COUNT of patterns that the domain would have. */
static int check_values(const struct name_key *k, const struct directory_alias *v,
			size_t n_patterns, struct err_info *info)
{
	size_t star;
	if (v->senders < SENDERS_ANYONE || v->senders > SENDERS_AUTHENTICATED)
		return err_set(info, ERR_INVAL, "there is no such rule for senders");
	if (directory_pattern(span_sub(k->key, 0, k->at), &star) < 0)
		return err_set(info, ERR_INVAL, "a pattern has one '*'");
	if (v->priority && (star == SPAN_NPOS || k->at == 1))
		return err_set(info, ERR_INVAL,
			       "only a pattern such as sales-* has a priority; exact names come "
			       "before all, \"*\" after");
	if (v->priority < -DIRECTORY_PRIORITY_MAX || v->priority > DIRECTORY_PRIORITY_MAX)
		return err_set(info, ERR_INVAL, "a priority is from -%d to %d",
			       DIRECTORY_PRIORITY_MAX, DIRECTORY_PRIORITY_MAX);
	if (star != SPAN_NPOS && n_patterns > DIRECTORY_PATTERNS_MAX)
		return err_set(info, ERR_INVAL, "a domain has at most %d patterns",
			       DIRECTORY_PATTERNS_MAX);
	return 0;
}

int directory_alias_make(struct directory *d, const struct directory_alias *v,
			 struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct name_key *keys, k;
	struct dom *dom;
	int r = parse_targets(v, &mem, &keys, info);
	if (r < 0)
		return r;
	CHANGE_SCOPE(d);
	r = directory_new_name(d, v->address, &mem, &k, &dom, info);
	if (r == 0)
		r = check_values(&k, v, dom->n_patterns + 1, info);
	if (r < 0)
		return r;
	struct alias_row row = { .address = k.text, .domain = dom->name, .v = v, .targets = keys };
	r = directory_commit(d, insert_alias, &row, info);
	if (r < 0)
		return r;
	struct name *a = directory_alias_new(&k, dom, v, keys);
	pthread_rwlock_wrlock(&d->lock);
	directory_name_link(d, a);
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

int directory_alias_add(struct directory *d, span address, const span *targets, size_t n,
			struct err_info *info)
{
	struct directory_alias v = { .address = address,
				     .targets = (span *)targets,
				     .n_targets = n };
	return directory_alias_make(d, &v, info);
}

int directory_alias_set(struct directory *d, const struct directory_alias *v, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	struct name_key *keys;
	int r = parse_targets(v, &mem, &keys, info);
	if (r < 0)
		return r;
	CHANGE_SCOPE(d);
	struct name *old = directory_known_name(d, v->address, true, &mem, info);
	if (!old)
		return ERR_NOENT;
	r = check_values(&old->k, v, old->dom->n_patterns, info);
	if (r < 0)
		return r;
	struct alias_row row = { .address = old->k.text, .v = v, .targets = keys };
	r = directory_commit(d, replace_alias, &row, info);
	if (r < 0)
		return r;
	struct name *fresh = directory_alias_new(&old->k, old->dom, v, keys);
	pthread_rwlock_wrlock(&d->lock);
	directory_name_unlink(d, old);
	directory_name_link(d, fresh);
	pthread_rwlock_unlock(&d->lock);
	directory_name_free(old);
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
	struct name *n = directory_known_name(d, address, true, &mem, info);
	if (!n)
		return ERR_NOENT;
	span text = n->k.text;
	int r = directory_commit(d, delete_alias, &text, info);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	directory_name_unlink(d, n);
	pthread_rwlock_unlock(&d->lock);
	directory_name_free(n);
	return 0;
}
