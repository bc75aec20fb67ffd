#include "imap/session_int.h"

uint32_t imap_view_find(const struct store_view *v, uint32_t uid, bool *ret_found)
{
	uint32_t lo = 0, hi = v->n;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (v->rows[mid].uid < uid)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_found = lo < v->n && v->rows[lo].uid == uid;
	return lo;
}

/* Index behind the last row with a UID of at most UID. */
static uint32_t behind(const struct store_view *v, uint32_t uid)
{
	bool found;
	uint32_t i = imap_view_find(v, uid, &found);
	return found ? i + 1 : i;
}

int imap_rows_of(const struct store_view *v, const struct imap_set *set, bool uid,
		 struct arena *mem, struct imap_rows *ret)
{
	uint32_t largest = uid ? (v->n ? v->rows[v->n - 1].uid : 0) : v->n;
	if (!uid && imap_set_check(set, v->n) < 0)
		return ERR_INVAL;
	struct imap_set s = imap_set_resolve(set, largest, mem);
	struct imap_rows rows = { .r = arena_array(mem, struct imap_row_range, s.n) };
	for (size_t i = 0; i < s.n; i++) {
		struct imap_row_range r;
		bool found;
		if (uid)
			r = (struct imap_row_range){ imap_view_find(v, s.r[i].lo, &found),
						     behind(v, s.r[i].hi) };
		else
			r = (struct imap_row_range){ s.r[i].lo ? s.r[i].lo - 1 : 0,
						     MIN(s.r[i].hi, v->n) };
		if (r.from < r.to)
			rows.r[rows.n++] = r;
	}
	*ret = rows;
	return 0;
}

size_t imap_rows_uids(const struct store_view *v, const struct imap_rows *rows, struct arena *mem,
		      struct imap_uid **ret)
{
	size_t n = 0, at = 0;
	for (size_t i = 0; i < rows->n; i++)
		n += rows->r[i].to - rows->r[i].from;
	struct imap_uid *uids = arena_array(mem, struct imap_uid, n);
	for (size_t i = 0; i < rows->n; i++)
		for (uint32_t k = rows->r[i].from; k < rows->r[i].to; k++)
			uids[at++].v = v->rows[k].uid;
	*ret = uids;
	return n;
}
