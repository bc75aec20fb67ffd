/* The outbox (S6): rows that a delivery left for the queue. */
#include "store/store_int.h"

int store_outbox_list(struct account *a, int64_t after, size_t max, struct arena *mem,
		      struct store_outbox **ret, size_t *ret_n)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	struct store_outbox *all = arena_array(mem, struct store_outbox, max);
	size_t n = 0;
	struct db_stmt *q = db_sql(
		tx, "SELECT id, kind, data FROM outbox WHERE id > ? ORDER BY id LIMIT ?");
	db_bind(q, "ii", after, (int64_t)max);
	while ((r = db_step(q)) > 0)
		all[n++] = (struct store_outbox){ .id = db_col_i64(q, 0),
						  .kind = (int)db_col_i64(q, 1),
						  .data = arena_span(mem, db_col_span(q, 2)) };
	if (r)
		return r;
	*ret = all;
	*ret_n = n;
	return 0;
}

static int drop_tx(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM outbox WHERE id = ?", "i", *(int64_t *)arg);
}

int store_outbox_drop(struct account *a, int64_t id)
{
	int r = db_write(a->db, drop_tx, &id);
	if (!r)
		FAILPOINT("store.outbox.after_commit");
	return r;
}
