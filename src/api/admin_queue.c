/* queue commands. */
#include "api/admin_int.h"

#define PAGE 200

static struct queue_filter filter_of(const struct admin_request *r)
{
	return (struct queue_filter){ .id = json_str(r->args, "id"),
				      .from = json_str(r->args, "from"),
				      .to = json_str(r->args, "to"),
				      .domain = json_str(r->args, "domain"),
				      .any = json_bool(r->args, "all", false) };
}

static bool filter_empty(const struct queue_filter *f)
{
	return !f->id.n && !f->from.n && !f->to.n && !f->domain.n && !f->any;
}

static json_t *entry_json(const struct queue_entry *e)
{
	json_t *rcpts = json_array();

	for (size_t i = 0; i < e->n_rcpts; i++)
		json_array_append_new(rcpts, json_pack("{s:o,s:o,s:o,s:o,s:i,s:o,s:b}", "address",
						       json_span(e->rcpts[i].address), "route",
						       json_span(e->rcpts[i].route), "reply",
						       json_span(e->rcpts[i].last_reply), "status",
						       json_span(e->rcpts[i].status), "attempts",
						       (int)e->rcpts[i].attempts, "next_attempt",
						       admin_time(e->rcpts[i].next_attempt),
						       "in_delivery", (int)e->rcpts[i].leased));
	return json_pack("{s:o,s:o,s:I,s:o,s:o}", "id", admin_id(&e->id), "from",
			 json_span(e->sender), "size", (json_int_t)e->size, "accepted",
			 admin_time(e->accepted_at), "recipients", rcpts);
}

static int queue_rows(struct admin_request *r, const struct queue_filter *f, size_t *ret_count)
{
	struct id after;
	bool more = false;

	*ret_count = 0;
	do {
		_cleanup_(arena_donep) struct arena mem;
		struct queue_entry *list;
		size_t n;
		int e;

		arena_init(&mem);
		e = queue_list(r->env->queue, f, more ? &after : NULL, PAGE, &mem, &list, &n);
		if (e < 0)
			return e;
		for (size_t i = 0; i < n && !r->broken; i++)
			admin_row(r, entry_json(&list[i]));
		*ret_count += n;
		more = n == PAGE && !r->broken;
		if (more)
			after = list[n - 1].id;
	} while (more);
	return 0;
}

static int cmd_list(struct admin_request *r)
{
	struct queue_filter f = filter_of(r);
	size_t n;

	if (filter_empty(&f))
		f.any = true;
	return queue_rows(r, &f, &n);
}

static int cmd_show(struct admin_request *r)
{
	struct queue_filter f = { 0 };
	size_t n;
	int e;

	if (!admin_need(r, "id", &f.id))
		return ERR_INVAL;
	e = queue_rows(r, &f, &n);
	return e == 0 && !n ? admin_fail(r, ERR_NOENT,
					 "no such message waits; try: postrider trace %.*s",
					 SPAN_FMT(f.id))
			    : e;
}

static bool rcpt_matches(const struct queue_entry_rcpt *rcpt, const struct queue_filter *f)
{
	span domain = rcpt->address;

	while (span_find(domain, '@') != SPAN_NPOS)
		span_cut(&domain, '@');
	return !rcpt->leased && (!f->to.n || span_ieq(f->to, rcpt->address)) &&
	       (!f->domain.n || span_ieq(f->domain, domain));
}

static void note_dropped(struct admin_request *r, const struct queue_entry *entry,
			 const struct queue_filter *f, struct arena *mem)
{
	struct event_list l;

	event_list_init(&l, mem);
	for (size_t i = 0; i < entry->n_rcpts; i++)
		if (rcpt_matches(&entry->rcpts[i], f))
			event_span(event_note(&l, "queue.drop"), "to", entry->rcpts[i].address,
				   mem);
	if (l.first)
		events_append(r->env->events, &entry->id, &l, NULL, 0);
}

/* Nobody is told of what is dropped, so the timeline has to say where it went. */
static int note_all(struct admin_request *r, const struct queue_filter *f)
{
	struct id after;
	bool more = false;

	do {
		_cleanup_(arena_donep) struct arena mem;
		struct queue_entry *list;
		size_t n;
		int e;

		arena_init(&mem);
		e = queue_list(r->env->queue, f, more ? &after : NULL, PAGE, &mem, &list, &n);
		if (e < 0)
			return e;
		for (size_t i = 0; i < n; i++)
			note_dropped(r, &list[i], f, &mem);
		more = n == PAGE;
		if (more)
			after = list[n - 1].id;
	} while (more);
	return 0;
}

static int change(struct admin_request *r,
		  int (*fn)(struct queue *, const struct queue_filter *, size_t *))
{
	struct queue_filter f = filter_of(r);
	size_t n = 0;
	int e;

	if (filter_empty(&f))
		return admin_fail(r, ERR_INVAL,
				  "say which messages: an id, --from, --to, --domain or --all");
	if (json_bool(r->args, "dry_run", false)) {
		size_t shown;

		return queue_rows(r, &f, &shown);
	}
	e = fn == queue_drop ? note_all(r, &f) : 0;
	if (e == 0)
		e = fn(r->env->queue, &f, &n);
	if (e == 0)
		admin_row(r, json_pack("{s:I}", "recipients", (json_int_t)n));
	r->hooks->relay_kick(r->hooks->arg);
	return e;
}

static int cmd_retry(struct admin_request *r)
{
	return change(r, queue_retry);
}

static int cmd_drop(struct admin_request *r)
{
	return change(r, queue_drop);
}

const struct admin_command admin_queue_commands[] = {
	{ "queue list", cmd_list },
	{ "queue show", cmd_show },
	{ "queue retry", cmd_retry, .dry_run = true },
	{ "queue drop", cmd_drop, .dry_run = true },
	{ NULL, NULL },
};
