/* queue commands. */
#include "api/admin_int.h"
#include "mail/mail.h"

#define PAGE 200

static const char *const state_names[] = {
	[QUEUE_WAITING] = "waiting", [QUEUE_HELD] = "held", [QUEUE_DELIVERING] = "delivering"
};

static int filter_of(struct admin_request *r, struct queue_filter *ret)
{
	span age = json_str(r->args, "age"), state = json_str(r->args, "state");
	usec older;

	*ret = (struct queue_filter){ .id = json_str(r->args, "id"),
				      .from = json_str(r->args, "from"),
				      .to = json_str(r->args, "to"),
				      .domain = json_str(r->args, "domain"),
				      .reply = json_str(r->args, "reply"),
				      .any = json_bool(r->args, "all", false) };
	if (age.n) {
		if (clock_parse_duration(age, &older) < 0 || older < 0)
			return admin_fail(r, ERR_INVAL,
					  "age: expected a time as 90s, 5m, 4h or 2d");
		ret->accepted_before = clock_wall() - older;
	}
	if (!state.n)
		return 0;
	for (enum queue_state i = QUEUE_WAITING; i <= QUEUE_DELIVERING; i++)
		if (span_eq_str(state, state_names[i]))
			ret->state = i;
	return ret->state ? 0
			  : admin_fail(r, ERR_INVAL, "state: expected waiting, held or delivering");
}

/* Why the next attempt is when it is, and what comes of it if it fails, for people. */
static const char *why(const struct queue_entry *e, const struct queue_entry_rcpt *r, struct buf *b)
{
	char until[CLOCK_TEXT];
	usec by = e->terms.deliver_by, now = clock_wall();

	if (r->leased)
		return "a delivery has it in its hands";
	if (r->held)
		return "held by the administrator; postrider queue release lets it go on";
	if (by && r->next_attempt == by)
		return e->terms.by_return
			       ? "the sender wants it back if it is not delivered by then"
			       : "the sender wants to be told if it is not delivered by then";
	if (r->fixed)
		return r->attempts ? "the destination named this time"
				   : "the sender asked for this time";
	if (!r->attempts)
		return r->next_attempt <= now
			       ? "due; it waits for its turn (see postrider queue destinations)"
			       : "first attempt";
	clock_format(r->until, until);
	if (r->rule.n)
		buf_printf(b, "the last answer is a case of queue.rules' \"%.*s\"",
			   SPAN_FMT(r->rule));
	else
		buf_put_str(b, "no case of queue.rules: by queue.retry_first, _factor and _max");
	buf_printf(b, "%s; what fails after %s is returned",
		   r->next_attempt <= now ? "; due, it waits for its turn" : "", until);
	return buf_cstr(b);
}

static json_t *rcpt_json(const struct queue_entry *entry, const struct queue_entry_rcpt *e)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(1024);
	enum queue_state state = e->leased ? QUEUE_DELIVERING
				 : e->held ? QUEUE_HELD
					   : QUEUE_WAITING;

	return json_pack("{s:o,s:o,s:o,s:o,s:i,s:o,s:b,s:s,s:o,s:o,s:s}", "address",
			 json_span(e->address), "route", json_span(e->route), "reply",
			 json_span(e->last_reply), "status", json_span(e->status), "attempts",
			 (int)e->attempts, "next_attempt", admin_time(e->next_attempt),
			 "in_delivery", (int)e->leased, "state", state_names[state], "rule",
			 json_span(e->rule), "retry_until", admin_time(e->until), "why",
			 why(entry, e, &text));
}

static json_t *entry_json(const struct queue_entry *e)
{
	json_t *rcpts = json_array();

	for (size_t i = 0; i < e->n_rcpts; i++)
		json_array_append_new(rcpts, rcpt_json(e, &e->rcpts[i]));
	json_t *j = json_pack("{s:o,s:o,s:I,s:o,s:i,s:b,s:o}", "id", admin_id(&e->id), "from",
			      json_span(e->sender), "size", (json_int_t)e->size, "accepted",
			      admin_time(e->accepted_at), "priority", e->terms.priority,
			      "require_tls", e->terms.require_tls, "recipients", rcpts);

	if (e->terms.deliver_by)
		json_object_set_new(j, "deliver_by", admin_time(e->terms.deliver_by));
	if (e->held_until)
		json_object_set_new(j, "held_until", admin_time(e->held_until));
	return j;
}

/* Calls FN for each entry that F means, a page at a time. */
static int each_entry(struct admin_request *r, const struct queue_filter *f,
		      void (*fn)(struct admin_request *r, struct queue_entry *e, void *arg,
				 struct arena *mem),
		      void *arg)
{
	struct queue_cursor at = { 0 };

	do {
		_cleanup_(arena_donep) struct arena mem;
		struct queue_entry *list;
		size_t n;
		int e;

		arena_init(&mem);
		e = queue_list(r->env->queue, f, &at, PAGE, &mem, &list, &n);
		if (e < 0)
			return e;
		for (size_t i = 0; i < n && !r->broken; i++)
			fn(r, &list[i], arg, &mem);
	} while (at.more && !r->broken);
	return 0;
}

static void show_entry(struct admin_request *r, struct queue_entry *e, void *arg, struct arena *mem)
{
	size_t *count = arg;

	++*count;
	admin_row(r, entry_json(e));
}

static int cmd_list(struct admin_request *r)
{
	struct queue_filter f;
	size_t n = 0;

	if (filter_of(r, &f) < 0)
		return ERR_INVAL;
	if (!queue_filter_set(&f))
		f.any = true;
	return each_entry(r, &f, show_entry, &n);
}

static int cmd_show(struct admin_request *r)
{
	struct queue_filter f = { 0 };
	size_t n = 0;
	int e;

	if (!admin_need(r, "id", &f.id))
		return ERR_INVAL;
	e = each_entry(r, &f, show_entry, &n);
	return e == 0 && !n ? admin_fail(r, ERR_NOENT,
					 "no such message waits; try: postrider trace %.*s",
					 SPAN_FMT(f.id))
			    : e;
}

/* ------------------------------------------------------------------ changes */

struct change {
	enum queue_change what;
	span route; /* QUEUE_REROUTE */
	size_t messages, rcpts;
};

/* Leaves those recipients in E that the change would touch: false if there is none. */
static bool only_touched(struct queue_entry *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->n_rcpts; i++)
		if (e->rcpts[i].fits && !e->rcpts[i].leased)
			e->rcpts[n++] = e->rcpts[i];
	e->n_rcpts = n;
	return n > 0;
}

static void show_touched(struct admin_request *r, struct queue_entry *e, void *arg,
			 struct arena *mem)
{
	struct change *c = arg;

	if (!only_touched(e))
		return;
	c->messages++;
	c->rcpts += e->n_rcpts;
	admin_row(r, entry_json(e));
}

static int dry_run(struct admin_request *r, struct queue_filter *f, struct change *c)
{
	int e = queue_filter_for(f, c->what) ? each_entry(r, f, show_touched, c) : 0;

	if (e == 0)
		admin_row(r,
			  json_pack("{s:b,s:I,s:I}", "dry_run", 1, "messages",
				    (json_int_t)c->messages, "recipients", (json_int_t)c->rcpts));
	return e;
}

/* The timeline says what was done by hand: of what is dropped nobody else would hear.  A return
 * writes its own story, and another attempt is told by its end. */
static const char *const change_events[] = { [QUEUE_HOLD] = "queue.hold",
					     [QUEUE_RELEASE] = "queue.release",
					     [QUEUE_REROUTE] = "queue.reroute",
					     [QUEUE_DROP] = "queue.drop" };

static void note_touched(struct admin_request *r, struct queue_entry *entry, void *arg,
			 struct arena *mem)
{
	const struct change *c = arg;
	struct event_list l;

	if (!only_touched(entry))
		return;
	event_list_init(&l, mem);
	for (size_t i = 0; i < entry->n_rcpts; i++) {
		struct event *e = event_note(&l, change_events[c->what]);

		event_span(e, "to", entry->rcpts[i].address, mem);
		if (c->route.n)
			event_span(e, "route", c->route, mem);
	}
	events_append(r->env->events, &entry->id, &l, NULL, 0);
}

/* Before it is done: afterwards the filter may not find it any more. */
static int note_all(struct admin_request *r, const struct queue_filter *f, struct change *c)
{
	struct queue_filter narrow = *f;

	if (c->what >= ARRAY_LEN(change_events) || !change_events[c->what] ||
	    !queue_filter_for(&narrow, c->what))
		return 0;
	return each_entry(r, &narrow, note_touched, c);
}

static int apply(struct admin_request *r, const struct queue_filter *f, struct change *c)
{
	struct queue *q = r->env->queue;

	switch (c->what) {
	case QUEUE_RETRY:
		return queue_retry(q, f, &c->rcpts);
	case QUEUE_HOLD:
		return queue_hold(q, f, &c->rcpts);
	case QUEUE_RELEASE:
		return queue_unhold(q, f, &c->rcpts);
	case QUEUE_REROUTE:
		return queue_reroute(q, f, c->route, &c->rcpts);
	case QUEUE_BOUNCE:
		return mail_give_back(r->env, f, &c->rcpts);
	case QUEUE_DROP:
		return queue_drop(q, f, &c->rcpts);
	}
	return ERR_INVAL;
}

static int change(struct admin_request *r, struct change c)
{
	struct queue_filter f;
	int e;

	if (filter_of(r, &f) < 0)
		return ERR_INVAL;
	if (!f.any && !queue_filter_set(&f))
		return admin_fail(
			r, ERR_INVAL,
			"say which messages: an id, a filter (--to, --age, ...) or --all");
	if (json_bool(r->args, "dry_run", false))
		return dry_run(r, &f, &c);
	e = note_all(r, &f, &c);
	if (e == 0)
		e = apply(r, &f, &c);
	if (e == 0)
		admin_row(r, json_pack("{s:I}", "recipients", (json_int_t)c.rcpts));
	r->hooks->relay_kick(r->hooks->arg);
	return e;
}

static void show_destination(void *arg, const struct admin_destination *d)
{
	admin_row(arg,
		  json_pack("{s:o,s:s,s:i,s:i,s:i,s:b,s:I,s:o,s:o}", "route", json_span(d->route),
			    "state", d->state, "connections", (int)d->open, "group_connections",
			    (int)d->group_open, "limit", (int)d->limit, "waits", (int)d->waits,
			    "cooled_seconds", (json_int_t)(d->cooled_for / USEC_SEC), "group",
			    json_span(d->group), "why", json_span(d->why)));
}

static int cmd_destinations(struct admin_request *r)
{
	int e = r->hooks->destinations(r->hooks->arg, show_destination, r);

	return e < 0 ? admin_fail(r, e, "the server is too busy to tell") : 0;
}

static int cmd_retry(struct admin_request *r)
{
	return change(r, (struct change){ QUEUE_RETRY });
}

static int cmd_hold(struct admin_request *r)
{
	return change(r, (struct change){ QUEUE_HOLD });
}

static int cmd_release(struct admin_request *r)
{
	return change(r, (struct change){ QUEUE_RELEASE });
}

static int cmd_reroute(struct admin_request *r)
{
	struct change c = { QUEUE_REROUTE };

	if (!admin_need(r, "to_route", &c.route))
		return ERR_INVAL;
	if (span_eq_str(c.route, "mx") || !admin_way_ok(r, c.route))
		return admin_fail(r, ERR_INVAL,
				  "to_route: expected smtp:DOMAIN, smtp:[HOST]:PORT, "
				  "lmtp:[HOST]:PORT or via:NAME");
	return change(r, c);
}

static int cmd_bounce(struct admin_request *r)
{
	return change(r, (struct change){ QUEUE_BOUNCE });
}

static int cmd_drop(struct admin_request *r)
{
	return change(r, (struct change){ QUEUE_DROP });
}

const struct admin_command admin_queue_commands[] = {
	{ "queue list", cmd_list },
	{ "queue show", cmd_show },
	{ "queue destinations", cmd_destinations },
	{ "queue retry", cmd_retry, .dry_run = true },
	{ "queue hold", cmd_hold, .dry_run = true },
	{ "queue release", cmd_release, .dry_run = true },
	{ "queue reroute", cmd_reroute, .dry_run = true },
	{ "queue bounce", cmd_bounce, .dry_run = true },
	{ "queue drop", cmd_drop, .dry_run = true },
	{ NULL, NULL },
};
