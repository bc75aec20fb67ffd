/* COPY and MOVE within an account: one commit; the body is shared, only its reference count
 * changes. */
#include "store/store_int.h"

struct copy {
	int64_t from, to;
	const struct imap_uid *uids;
	size_t n, done;
	bool move;
	struct imap_uid *old, *new;
	uint32_t uidvalidity;
};

static int copy_one(struct db_tx *tx, struct copy *c, struct mbox *src, struct mbox *dst,
		    struct imap_uid uid)
{
	struct message_row row;
	int r = message_load(tx, src->id, uid.v, &row);
	if (r <= 0)
		return r;
	r = c->move ? message_delete(tx, src, &row) : body_ref(tx, row.body);
	if (!r)
		r = message_insert(tx, dst, &row);
	if (r)
		return r;
	if (c->old)
		c->old[c->done] = uid;
	if (c->new)
		c->new[c->done].v = row.uid;
	c->done++;
	return 0;
}

static int copy_tx(struct db_tx *tx, void *arg)
{
	struct copy *c = arg;
	struct mbox src, other, *dst = c->from == c->to ? &src : &other;
	c->done = 0;
	int r = mbox_load(tx, c->from, &src);
	if (!r && dst == &other)
		r = mbox_load(tx, c->to, &other);
	if (!r && !dst->selectable)
		r = ERR_NOENT;
	if (r)
		return r;
	dst->modseq++;
	if (c->move && dst != &src)
		src.modseq++;
	for (size_t i = 0; i < c->n && !r; i++)
		r = copy_one(tx, c, &src, dst, c->uids[i]);
	if (r)
		return r;
	c->uidvalidity = dst->uidvalidity;
	if (c->done == 0)
		return 0;
	r = mbox_save(tx, dst);
	return r || !c->move || dst == &src ? r : mbox_save(tx, &src);
}

int store_copy(struct account *a, int64_t from, const struct imap_uid *uids, size_t n, int64_t to,
	       bool move, struct imap_uid *ret_old, struct imap_uid *ret_new, size_t *ret_n,
	       uint32_t *ret_uidvalidity)
{
	struct copy c = { .from = from,
			  .to = to,
			  .uids = uids,
			  .n = n,
			  .move = move,
			  .old = ret_old,
			  .new = ret_new };
	FAILPOINT("store.copy.before_commit");
	int r = db_write(a->db, copy_tx, &c);
	if (r)
		return r;
	FAILPOINT("store.copy.after_commit");
	if (c.done) {
		watch_notify(a, to);
		if (move && from != to)
			watch_notify(a, from);
	}
	if (ret_n)
		*ret_n = c.done;
	if (ret_uidvalidity)
		*ret_uidvalidity = c.uidvalidity;
	return 0;
}
