#include "base/event.h"

/* What event_note hands out past the limit: TAIL is NULL, so fields are not kept.  Per thread, as
 * lists of different threads may be full at the same time. */
static _Thread_local struct event scratch;

void event_list_init(struct event_list *l, struct arena *mem)
{
	*l = (struct event_list){ .mem = mem, .limit = 4096 };
	l->tail = &l->first;
}

struct event *event_note(struct event_list *l, const char *name)
{
	if (l->count >= l->limit) {
		l->dropped++;
		scratch = (struct event){ .name = name };
		return &scratch;
	}
	struct event *e = arena_new(l->mem, struct event);
	e->name = name;
	e->at = clock_wall();
	e->tail = &e->fields;
	*l->tail = e;
	l->tail = &e->next;
	l->count++;
	return e;
}

void event_span(struct event *e, const char *key, span v, struct arena *mem)
{
	if (!e->tail)
		return;
	struct event_field *f = arena_new(mem, struct event_field);
	f->key = key;
	f->value = arena_span(mem, v);
	*e->tail = f;
	e->tail = &f->next;
}

void event_str(struct event *e, const char *key, const char *z, struct arena *mem)
{
	event_span(e, key, span_str(z), mem);
}

void event_u64(struct event *e, const char *key, uint64_t v, struct arena *mem)
{
	if (e->tail)
		event_str(e, key, arena_printf(mem, "%llu", (unsigned long long)v), mem);
}
