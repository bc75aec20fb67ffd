/* trace: the journey of a message, by id, address or Message-ID. */
#include "api/admin_int.h"

#include <sysexits.h>

#define MAX_FOUND 20

static json_t *event_json(const struct id *id, const struct event *ev)
{
	json_t *j = json_pack("{s:o,s:o,s:s}", "id", admin_id(id), "time", admin_time(ev->at),
			      "event", ev->name);

	for (const struct event_field *f = ev->fields; f; f = f->next)
		json_object_set_new(j, f->key, json_span(f->value));
	return j;
}

static int trace_one(struct admin_request *r, const struct id *id, size_t *count)
{
	struct event_list l;
	int e;

	event_list_init(&l, r->mem);
	e = events_trace(r->env->events, id, r->mem, &l);
	for (const struct event *ev = l.first; e == 0 && ev && !r->broken; ev = ev->next, ++*count)
		admin_row(r, event_json(id, ev));
	return e;
}

static int trace_waiting_entry(struct admin_request *r, const struct queue_entry *entry)
{
	for (size_t i = 0; i < entry->n_rcpts; i++)
		admin_row(r, json_pack("{s:o,s:o,s:s,s:o,s:i,s:o,s:o}", "id", admin_id(&entry->id),
				       "time", admin_time(clock_wall()), "event", "queue.waiting",
				       "to", json_span(entry->rcpts[i].address), "attempts",
				       (int)entry->rcpts[i].attempts, "next_attempt",
				       admin_time(entry->rcpts[i].next_attempt), "reply",
				       json_span(entry->rcpts[i].last_reply)));
	return (int)entry->n_rcpts;
}

/* What still waits is in the queue's own rows, even if the journal lost its last moments. */
static int trace_waiting(struct admin_request *r, const struct id *id)
{
	char text[ID_TEXT];
	struct queue_filter f;
	struct queue_entry *list;
	size_t n;
	int rows = 0;

	id_format(id, text);
	f = (struct queue_filter){ .id = span_str(text) };
	/* What went on to an alias's targets waits beside the rest, under the same id. */
	if (queue_list(r->env->queue, &f, NULL, MAX_FOUND, r->mem, &list, &n) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		rows += trace_waiting_entry(r, &list[i]);
	return rows;
}

static int cmd_trace(struct admin_request *r)
{
	struct id ids[MAX_FOUND], one;
	size_t n = 0, rows = 0;
	span key;
	int e;

	if (!admin_need(r, "key", &key))
		return ERR_INVAL;
	events_flush(r->env->events);
	if (id_parse(key, &one)) {
		ids[0] = one;
		n = 1;
	} else {
		e = events_find(r->env->events, key, r->mem, ids, MAX_FOUND, &n);
		if (e < 0)
			return e;
	}
	for (size_t i = n; i-- > 0;) { /* oldest first */
		e = trace_one(r, &ids[i], &rows);
		if (e < 0 && e != ERR_NOENT)
			return e;
		e = trace_waiting(r, &ids[i]);
		rows += e > 0 ? (size_t)e : 0;
	}
	return rows ? 0
		    : admin_fail(r, ERR_NOENT, "nothing is known of %.*s",
				 (int)MIN(key.n, (size_t)200), key.p);
}

const struct admin_command admin_trace_commands[] = { { "trace", cmd_trace }, { NULL, NULL } };
