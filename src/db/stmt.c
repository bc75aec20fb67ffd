/* Statements: prepared once per connection, found by the address of their literal. */
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

#include "db/db_int.h"

int db_stmt_init(struct db_stmt *s, struct db_tx *c, const char *sql)
{
	*s = (struct db_stmt){ .tx = c, .sql = sql };
	int rc = sqlite3_prepare_v3(c->sq, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->s, NULL);
	if (rc != SQLITE_OK)
		s->err = db_err(c->sq, rc);
	return s->err;
}

void db_stmt_done(struct db_stmt *s)
{
	sqlite3_finalize(s->s);
	s->s = NULL;
}

void db_stmts_free(struct db_tx *c)
{
	for (size_t i = 0; i < c->n_slots; i++) {
		if (!c->slots[i])
			continue;
		db_stmt_done(c->slots[i]);
		free(c->slots[i]);
	}
	free(c->slots);
	c->slots = NULL;
	c->n_slots = c->n_stmts = c->n_active = 0;
}

void db_stmts_reset(struct db_tx *c)
{
	for (size_t i = 0; i < c->n_slots && c->n_active > 0; i++)
		if (c->slots[i] && c->slots[i]->active)
			db_reset(c->slots[i]);
}

static size_t slot_of(const struct db_tx *c, const char *sql)
{
	size_t i = (size_t)(((uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15)) >> 32) &
		   (c->n_slots - 1);
	while (c->slots[i] && c->slots[i]->sql != sql)
		i = (i + 1) & (c->n_slots - 1);
	return i;
}

static void grow(struct db_tx *c)
{
	struct db_stmt **old = c->slots;
	size_t n_old = c->n_slots;
	c->n_slots = n_old ? n_old * 2 : 32;
	c->slots = xcalloc(c->n_slots, sizeof(struct db_stmt *));
	for (size_t i = 0; i < n_old; i++)
		if (old[i])
			c->slots[slot_of(c, old[i]->sql)] = old[i];
	free(old);
}

struct db_stmt *db_sql(struct db_tx *tx, const char *sql)
{
	if ((tx->n_stmts + 1) * 2 > tx->n_slots)
		grow(tx);
	size_t i = slot_of(tx, sql);
	struct db_stmt *s = tx->slots[i];
	if (!s) {
		s = tx->slots[i] = xcalloc(1, sizeof(*s));
		db_stmt_init(s, tx, sql);
		tx->n_stmts++;
		return s;
	}
	if (s->err) { /* a preparation that failed may have failed for a reason that passed */
		db_stmt_init(s, tx, sql);
		return s;
	}
	assert(strcmp(sqlite3_sql(s->s), sql) == 0); /* not a literal? */
	db_reset(s);
	sqlite3_clear_bindings(s->s);
	return s;
}

static int bind_span(sqlite3_stmt *st, int at, span v, bool blob)
{
	if (blob)
		return v.n ? sqlite3_bind_blob64(st, at, v.p, v.n, SQLITE_STATIC)
			   : sqlite3_bind_zeroblob(st, at, 0);
	return sqlite3_bind_text64(st, at, v.p ? v.p : "", v.n, SQLITE_STATIC, SQLITE_UTF8);
}

static void bind_args(struct db_stmt *s, const char *fmt, va_list ap)
{
	int at = 0;
	for (; *fmt && !s->err; fmt++) {
		int rc = SQLITE_OK;
		at++;
		switch (*fmt) {
		case 'i':
			rc = sqlite3_bind_int64(s->s, at, va_arg(ap, int64_t));
			break;
		case 'u':
			rc = sqlite3_bind_int64(s->s, at, (int64_t)va_arg(ap, uint64_t));
			break;
		case 's':
			rc = bind_span(s->s, at, va_arg(ap, span), false);
			break;
		case 'b':
			rc = bind_span(s->s, at, va_arg(ap, span), true);
			break;
		case 'z': {
			const char *z = va_arg(ap, const char *);
			rc = sqlite3_bind_text(s->s, at, z, -1, SQLITE_STATIC);
			break;
		}
		case 'n':
			rc = sqlite3_bind_null(s->s, at);
			break;
		default:
			assert(!"db_bind: unknown format");
		}
		assert(rc != SQLITE_RANGE && rc != SQLITE_MISUSE); /* more arguments than places */
		if (rc != SQLITE_OK) {
			s->err = rc == SQLITE_TOOBIG ? ERR_TOOBIG : db_err(s->tx->sq, rc);
			return;
		}
	}
}

void db_bind(struct db_stmt *s, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	bind_args(s, fmt, ap);
	va_end(ap);
}

/* What concerns the whole transaction is remembered, so that a caller that overlooks it cannot
 * make the batch commit. */
static int step_failed(struct db_stmt *s, int rc)
{
	struct db_tx *tx = s->tx;
	int err = db_err(tx->sq, rc);
	if (tx->writer && db_rc_poisons(tx->sq, rc)) {
		err = ERR_SYNC;
		atomic_store(&tx->d->poison, ERR_SYNC);
	}
	if (err != ERR_EXIST && err != ERR_INVAL && !tx->fatal)
		tx->fatal = err;
	db_reset(s);
	return err;
}

int db_step(struct db_stmt *s)
{
	if (s->err) {
		if (!s->tx->fatal)
			s->tx->fatal = s->err;
		return s->err;
	}
	if (!s->active) {
		s->active = true;
		s->tx->n_active++;
	}
	int rc = sqlite3_step(s->s);
	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE) {
		db_reset(s);
		return 0;
	}
	return step_failed(s, rc);
}

void db_reset(struct db_stmt *s)
{
	if (!s->active)
		return;
	sqlite3_reset(s->s);
	s->active = false;
	s->tx->n_active--;
}

int db_run(struct db_tx *tx, const char *sql, const char *fmt, ...)
{
	struct db_stmt *s = db_sql(tx, sql);
	va_list ap;
	va_start(ap, fmt);
	bind_args(s, fmt, ap);
	va_end(ap);
	int r;
	while ((r = db_step(s)) > 0)
		;
	return r;
}

int db_get_i64(struct db_tx *tx, int64_t *ret, const char *sql, const char *fmt, ...)
{
	struct db_stmt *s = db_sql(tx, sql);
	va_list ap;
	va_start(ap, fmt);
	bind_args(s, fmt, ap);
	va_end(ap);
	int r = db_step(s);
	if (r > 0) {
		*ret = db_col_i64(s, 0);
		db_reset(s);
	}
	return r;
}

int64_t db_col_i64(struct db_stmt *s, int col)
{
	return sqlite3_column_int64(s->s, col);
}

bool db_col_null(struct db_stmt *s, int col)
{
	return sqlite3_column_type(s->s, col) == SQLITE_NULL;
}

span db_col_span(struct db_stmt *s, int col)
{
	const void *p = sqlite3_column_blob(s->s, col);
	return span_of(p, p ? (size_t)sqlite3_column_bytes(s->s, col) : 0);
}

int64_t db_last_id(struct db_tx *tx)
{
	return sqlite3_last_insert_rowid(tx->sq);
}

int64_t db_changes(struct db_tx *tx)
{
	return sqlite3_changes64(tx->sq);
}

int db_blob_read(struct db_tx *tx, const char *table, const char *column, int64_t rowid,
		 uint64_t from, void *p, size_t n)
{
	sqlite3_blob *b = NULL;
	int rc = sqlite3_blob_open(tx->sq, "main", table, column, rowid, 0, &b);
	if (rc == SQLITE_ERROR) /* no such row, or no blob in it */
		return ERR_NOENT;
	if (rc != SQLITE_OK)
		return db_err(tx->sq, rc);
	int size = sqlite3_blob_bytes(b), r = ERR_INVAL;
	if (from <= (uint64_t)size && n <= (uint64_t)size - from) {
		rc = sqlite3_blob_read(b, p, (int)n, (int)from);
		r = rc == SQLITE_OK ? 0 : db_err(tx->sq, rc);
	}
	sqlite3_blob_close(b);
	return r;
}
