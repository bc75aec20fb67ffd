/* Which schema a database has, and bringing it to ours (D5). */
#include "db/db_int.h"

static int table_count(struct db_tx *c, const char *sql, int64_t *ret)
{
	int r = db_get_i64(c, ret, sql, "");
	return r < 0 ? r : r ? 0 : ERR_CORRUPT;
}

/* Version of the database; 0 for one without tables. */
static int read_meta(struct db_tx *c, const struct db_schema *s, int64_t *ret_version,
		     int64_t *ret_oldest, struct err_info *info)
{
	int64_t n = 0, meta = 0;
	int r = table_count(c, "SELECT count(*) FROM sqlite_schema", &n);
	if (!r)
		r = table_count(c, "SELECT count(*) FROM sqlite_schema WHERE name = 'db_meta'",
				&meta);
	if (r)
		return err_set(info, r, "%s: %s", c->d->path, err_text(r));
	if (n == 0) {
		*ret_version = *ret_oldest = 0;
		return 0;
	}
	if (!meta)
		return err_set(info, ERR_CORRUPT, "%s: not a database of postrider", c->d->path);
	struct db_stmt *q = db_sql(c, "SELECT name, version, oldest_writer FROM db_meta");
	r = db_step(q);
	if (r <= 0)
		return err_set(info, r ? r : ERR_CORRUPT, "%s: cannot read its version",
			       c->d->path);
	if (!span_eq_str(db_col_span(q, 0), s->name)) {
		db_reset(q);
		return err_set(info, ERR_CORRUPT, "%s: is not of kind \"%s\"", c->d->path, s->name);
	}
	*ret_version = db_col_i64(q, 1);
	*ret_oldest = db_col_i64(q, 2);
	db_reset(q);
	return 0;
}

static int apply(struct db_tx *c, const struct db_schema *s, int64_t version)
{
	int r = db_exec(c, "BEGIN IMMEDIATE");
	if (!r && version == 0)
		r = db_exec(c, "CREATE TABLE db_meta(name TEXT NOT NULL, version INTEGER NOT NULL,"
			       " oldest_writer INTEGER NOT NULL)");
	if (!r && version == 0)
		r = db_run(c, "INSERT INTO db_meta VALUES(?, 0, 0)", "z", s->name);
	for (size_t i = 0; i < s->n_steps && !r; i++) {
		if (s->steps[i].version <= version)
			continue;
		r = db_exec(c, s->steps[i].sql);
		if (!r)
			r = db_run(c, "UPDATE db_meta SET version = ?, oldest_writer = ?", "ii",
				   (int64_t)s->steps[i].version,
				   (int64_t)s->steps[i].oldest_writer);
	}
	if (!r)
		r = db_exec(c, "COMMIT");
	if (r && !sqlite3_get_autocommit(c->sq))
		db_exec(c, "ROLLBACK");
	return r;
}

int db_migrate(struct db_tx *c, const struct db_schema *s, unsigned flags, struct err_info *info)
{
	int64_t version = 0, oldest = 0, ours = s->n_steps ? s->steps[s->n_steps - 1].version : 0;
	int r = read_meta(c, s, &version, &oldest, info);
	if (r)
		return r;
	if (version == 0 && !(flags & DB_CREATE)) /* its creation was never finished */
		return err_set(info, ERR_NOENT, "%s: is empty", c->d->path);
	if (oldest > ours)
		return err_set(info, ERR_VERSION,
			       "%s: has version %lld; version %lld or later is needed, this "
			       "release has %lld",
			       c->d->path, (long long)version, (long long)oldest, (long long)ours);
	if (version >= ours)
		return 0;
	r = apply(c, s, version);
	return r ? err_set(info, r, "%s: cannot migrate from version %lld to %lld: %s", c->d->path,
			   (long long)version, (long long)ours, err_text(r))
		 : 0;
}
