#include "format/imapfmt.h"
#include "imap/pattern.h"
#include "imap/session_int.h"

/* LIST and LSUB (RFC 3501 6.3.8, 6.3.9; RFC 3348 \HasChildren; RFC 6154 SPECIAL-USE). */

static const uint64_t WORK = 50 * 1000 * 1000; /* pattern steps of one command */

struct listing {
	struct imap_job *j;
	const struct imap_args *args;
	span patterns[IMAP_MAX_PATTERNS]; /* UTF-8, with the reference in front */
	size_t n;
	struct mailbox_info *all;
	size_t n_all;
	uint64_t budget;
	span last_parent; /* the implied parent that was listed last */
};

static bool matches(struct listing *l, span name)
{
	for (size_t i = 0; i < l->n; i++)
		if (imap_pattern_match(l->patterns[i], name, &l->budget))
			return true;
	return false;
}

/* Is NAME among the mailboxes (sorted by name)? */
static bool exists(const struct listing *l, span name)
{
	size_t lo = 0, hi = l->n_all;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = span_cmp(l->all[mid].name, name);
		if (c == 0)
			return true;
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static void put_line(struct listing *l, const char *attributes, span name)
{
	_cleanup_(buf_donep) struct buf wire = BUF_INIT(8192);
	mutf7_encode(&wire, name);
	struct buf *b = sess_out(l->j->s);
	buf_printf(b, "* %s (%s) \"/\" ", l->args->cmd->name, attributes);
	imapfmt_astring(b, buf_span(&wire));
	buf_put_str(b, "\r\n");
}

static void put_mailbox(struct listing *l, const struct mailbox_info *m)
{
	unsigned ret = l->args->list.ret;
	bool special = !l->args->list.ret_given || (ret & IMAP_LIST_SPECIAL_USE) ||
		       (l->args->list.select & IMAP_LIST_SPECIAL_USE);
	char *text = arena_printf(
		l->j->s->mem, "%s%s%s%s%s", m->has_children ? "\\HasChildren" : "\\HasNoChildren",
		m->selectable ? "" : " \\Noselect",
		m->subscribed && ((ret | l->args->list.select) & IMAP_LIST_SUBSCRIBED)
			? " \\Subscribed"
			: "",
		special && m->special ? " " : "",
		special && m->special ? imap_special_uses[m->special] : "");
	put_line(l, text, m->name);
}

/* "%" shows a level that exists only as part of longer names (6.3.8, 6.3.9). */
static void put_parents(struct listing *l, span name)
{
	for (size_t i = 0; i < name.n; i++) {
		span parent = span_sub(name, 0, i);
		if (name.p[i] != '/' || exists(l, parent) || span_eq(parent, l->last_parent) ||
		    !matches(l, parent))
			continue;
		l->last_parent = parent;
		put_line(l, "\\Noselect \\HasChildren", parent);
	}
}

/* Reference and pattern are simply joined: there is one namespace and no other meaning. */
static void prepare_patterns(struct listing *l)
{
	const struct imap_list_args *a = &l->args->list;
	for (size_t i = 0; i < a->n; i++) {
		_cleanup_(buf_donep) struct buf wire = BUF_INIT(IMAP_MAX_PATTERN),
						utf8 = BUF_INIT(IMAP_MAX_PATTERN);
		buf_put_span(&wire, a->reference);
		buf_put_span(&wire, a->patterns[i]);
		if (!wire.failed && mutf7_decode(&utf8, buf_span(&wire)) == 0)
			l->patterns[l->n++] = arena_span(l->j->s->mem, buf_span(&utf8));
	}
}

static bool wanted(const struct listing *l, const struct mailbox_info *m)
{
	unsigned select = l->args->list.select;
	return !((select & IMAP_LIST_SPECIAL_USE) && !m->special) &&
	       !((select & IMAP_LIST_SUBSCRIBED) && !m->subscribed);
}

struct imap_answer imap_cmd_list(struct imap_job *j, struct imap_args *a)
{
	bool subscribed = a->cmd->id == IMAP_LSUB;
	struct listing *l = arena_new(j->s->mem, struct listing);
	*l = (struct listing){ .j = j, .args = a, .budget = WORK };
	if (!subscribed && a->list.n == 1 && a->list.patterns[0].n == 0) { /* which separator? */
		buf_put_str(sess_out(j->s), "* LIST (\\Noselect) \"/\" \"\"\r\n");
		return imap_ok("LIST completed");
	}
	struct account *acc;
	int r = imap_account(j, &acc);
	if (r == 0)
		r = store_mailbox_list(acc, subscribed, j->s->mem, &l->all, &l->n_all);
	if (r < 0)
		return imap_error(r);
	prepare_patterns(l);
	for (size_t i = 0; i < l->n_all && l->budget; i++) {
		if (wanted(l, &l->all[i]) && matches(l, l->all[i].name))
			put_mailbox(l, &l->all[i]);
		if (!a->list.select)
			put_parents(l, l->all[i].name);
	}
	if (!l->budget)
		return imap_no("[LIMIT] Patterns are too complex");
	return imap_ok(subscribed ? "LSUB completed" : "LIST completed");
}
