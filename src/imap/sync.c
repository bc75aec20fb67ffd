#include "imap/session_int.h"

/* What a session is told of changes (RFC 3501 5.2, 7.3, 7.4): the difference of two views. */

int imap_keywords_load(struct imap_job *j, struct imap_keywords *ret)
{
	struct account *a;
	ret->n = 0;
	if (!j->keywords) {
		struct imap_keywords *k = arena_new(j->s->mem, struct imap_keywords);
		int r = imap_account(j, &a);
		if (r == 0)
			r = store_keyword_names(a, j->s->mem, k->name, &k->n);
		if (r < 0)
			return r;
		j->keywords = k;
	}
	*ret = *j->keywords;
	return 0;
}

bool imap_is_recent(const struct imap_session *st, uint32_t uid)
{
	return st->recent_from && uid >= st->recent_from;
}

void imap_flags_put(struct buf *b, const struct store_row *r, const struct imap_keywords *k,
		    bool recent)
{
	const char *sep = "";
	buf_put_char(b, '(');
	for (size_t i = 0; i < ARRAY_LEN(imap_system_flags); i++)
		if (r->flags & 1u << i) {
			buf_printf(b, "%s%s", sep, imap_system_flags[i]);
			sep = " ";
		}
	for (size_t i = 0; i < k->n; i++)
		if (r->keywords >> i & 1) {
			buf_put_str(b, sep);
			buf_put_span(b, k->name[i]);
			sep = " ";
		}
	if (recent)
		buf_printf(b, "%s\\Recent", sep);
	buf_put_char(b, ')');
}

void imap_flags_announce(struct imap_job *j, const struct imap_keywords *k)
{
	struct store_row all = { .flags = (1u << ARRAY_LEN(imap_system_flags)) - 1,
				 .keywords = k->n >= 64 ? UINT64_MAX : ((uint64_t)1 << k->n) - 1 };
	struct buf *b = sess_out(j->s);
	buf_put_str(b, "* FLAGS ");
	imap_flags_put(b, &all, k, false);
	buf_put_str(b, "\r\n* OK [PERMANENTFLAGS ");
	if (j->st->readonly) {
		buf_put_str(b, "()");
	} else {
		imap_flags_put(b, &all, k, false);
		b->n--; /* before the closing parenthesis */
		buf_put_str(b, k->n < 64 ? " \\*)" : ")");
	}
	buf_put_str(b, "] Flags that are kept\r\n");
	j->st->keywords_told = k->n;
}

int imap_flags_resolve(struct account *a, const struct imap_flags *f, bool create,
		       struct store_flags *ret)
{
	struct store_flags out = { .system = f->system };
	for (size_t i = 0; i < f->n_keywords; i++) {
		unsigned bit;
		int r = store_keyword_bit(a, f->keywords[i], create, &bit);
		if (r == ERR_NOENT && !create)
			continue; /* a keyword nobody has: nothing to remove */
		if (r < 0)
			return r;
		out.keywords |= (uint64_t)1 << bit;
	}
	*ret = out;
	return 0;
}

static bool any_vanished(const struct store_view *old, const struct store_view *now)
{
	uint32_t k = 0;
	for (uint32_t i = 0; i < old->n; i++) {
		while (k < now->n && now->rows[k].uid < old->rows[i].uid)
			k++;
		if (k == now->n || now->rows[k].uid != old->rows[i].uid)
			return true;
	}
	return false;
}

/* From the end, so that the numbers of what is still to come do not change. */
static uint32_t tell_expunged(struct imap_job *j, const struct store_view *old,
			      const struct store_view *now)
{
	uint32_t k = now->n, told = 0;
	for (uint32_t i = old->n; i-- > 0;) {
		while (k > 0 && now->rows[k - 1].uid > old->rows[i].uid)
			k--;
		if (k > 0 && now->rows[k - 1].uid == old->rows[i].uid)
			continue;
		buf_printf(sess_out(j->s), "* %u EXPUNGE\r\n", i + 1);
		told++;
	}
	return told;
}

static void tell_new(struct imap_job *j, const struct store_view *now, uint32_t known)
{
	if (now->n == known)
		return;
	uint32_t recent = 0;
	for (uint32_t i = now->n; i > 0 && imap_is_recent(j->st, now->rows[i - 1].uid); i--)
		recent++;
	buf_printf(sess_out(j->s), "* %u EXISTS\r\n* %u RECENT\r\n", now->n, recent);
}

static void tell_row(struct imap_job *j, uint32_t seq, const struct store_row *r,
		     struct imap_keywords *k, bool *loaded)
{
	if (!*loaded) {
		*loaded = true;
		imap_keywords_load(j, k);
		if (k->n > j->st->keywords_told)
			imap_flags_announce(j, k);
	}
	struct buf *b = sess_out(j->s);
	buf_printf(b, "* %u FETCH (UID %u FLAGS ", seq, r->uid);
	imap_flags_put(b, r, k, imap_is_recent(j->st, r->uid));
	buf_put_str(b, ")\r\n");
}

static void tell_flags(struct imap_job *j, const struct store_view *old,
		       const struct store_view *now)
{
	struct imap_keywords k;
	bool loaded = false;
	uint32_t i = 0;
	for (uint32_t n = 0; n < now->n; n++) {
		const struct store_row *r = &now->rows[n];
		while (i < old->n && old->rows[i].uid < r->uid)
			i++;
		if (i == old->n)
			return;
		const struct store_row *o = &old->rows[i];
		if (o->uid != r->uid || o->modseq == r->modseq || r->modseq == j->st->quiet_modseq)
			continue;
		if (o->flags != r->flags || o->keywords != r->keywords)
			tell_row(j, n + 1, r, &k, &loaded);
	}
}

void imap_sync(struct imap_job *j, bool hold)
{
	struct imap_session *st = j->st;
	struct account *a;
	const struct store_view *now;
	if (imap_account(j, &a) < 0)
		return; /* nothing is told now; the next command tries again */
	int r = store_view_get(a, st->mailbox, &now);
	if (r == ERR_NOENT) {
		imap_bye(j, "Selected mailbox was deleted");
		return;
	}
	if (r < 0)
		return;
	if (now->uidvalidity != st->view->uidvalidity) {
		store_view_put(now);
		imap_bye(j, "Selected mailbox was replaced");
		return;
	}
	if (now == st->view || (hold && any_vanished(st->view, now))) {
		store_view_put(now);
		return;
	}
	uint32_t gone = tell_expunged(j, st->view, now);
	tell_new(j, now, st->view->n - gone);
	tell_flags(j, st->view, now);
	store_view_put(st->view);
	st->view = now;
	st->quiet_modseq = 0;
}
