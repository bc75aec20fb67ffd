/* Questions and answers of one message. */
#include "trust/lookup.h"

#include "base/map.h"
#include "trust/ascii.h"

#define NAME_MAX_TEXT 253
#define LABEL_MAX     63

bool trust_name_valid(span name)
{
	size_t label = 0;

	if (!name.n || name.n > NAME_MAX_TEXT)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] != '.') {
			if (++label > LABEL_MAX)
				return false;
		} else if (!label) {
			return false;
		} else {
			label = 0;
		}
	}
	return label > 0;
}

bool trust_answer_failed(const struct dns_answer *a)
{
	return a->status == DNS_SERVFAIL || a->status == DNS_BOGUS || a->status == DNS_TIMEOUT;
}

const struct dns_answer *trust_ask(const struct trust_lookup *l, struct arena *mem, span name,
				   enum dns_type type)
{
	static const struct dns_answer no_such_name = { .status = DNS_NXDOMAIN };

	name = name_undot(name);
	if (!trust_name_valid(name))
		return &no_such_name;
	return l->ask(l->arg, ascii_lower(name, mem), type);
}

/* ------------------------------------------------------------------ the collection */

struct trust_answers {
	struct trust_lookup lookup;
	struct arena *mem;
	struct map *by_key; /* "TYPE name" -> struct entry */
	struct dns_question missing[TRUST_QUESTIONS_MAX];
	size_t n_missing;
	bool taken; /* `missing` was handed out: the next question begins a new list */
};

struct entry {
	struct dns_answer *answer; /* NULL: asked, not answered */
};

static span key_of(struct arena *mem, span name, enum dns_type type)
{
	struct buf b = BUF_INIT(512);
	span key;

	buf_printf(&b, "%d ", (int)type);
	buf_put_span(&b, name);
	key = arena_span(mem, buf_span(&b));
	buf_done(&b);
	return key;
}

static const struct dns_answer *collect(void *arg, span name, enum dns_type type)
{
	static const struct dns_answer too_many = { .status = DNS_SERVFAIL };
	struct trust_answers *t = arg;
	span key = key_of(t->mem, name, type);
	struct entry *e = map_get(t->by_key, key);

	if (e)
		return e->answer;
	if (map_count(t->by_key) >= TRUST_QUESTIONS_MAX)
		return &too_many;
	map_put(t->by_key, key, arena_new(t->mem, struct entry));
	if (t->taken)
		t->n_missing = 0;
	t->taken = false;
	t->missing[t->n_missing++] = (struct dns_question){ .name = arena_span(t->mem, name),
							    .type = type };
	return NULL;
}

struct trust_answers *trust_answers_new(struct arena *mem)
{
	struct trust_answers *t = arena_new(mem, struct trust_answers);

	t->mem = mem;
	t->by_key = map_new();
	t->lookup = (struct trust_lookup){ .ask = collect, .arg = t };
	return t;
}

void trust_answers_free(struct trust_answers *t)
{
	if (t)
		map_free(t->by_key);
}

const struct trust_lookup *trust_answers_lookup(struct trust_answers *t)
{
	return &t->lookup;
}

static struct dns_answer *copy_answer(struct arena *mem, const struct dns_answer *a)
{
	struct dns_answer *c = arena_new(mem, struct dns_answer);

	*c = *a;
	c->name = arena_span(mem, a->name);
	c->why = arena_span(mem, a->why);
	c->records = arena_array(mem, struct dns_record, a->n);
	for (size_t i = 0; i < a->n; i++) {
		c->records[i] = a->records[i];
		c->records[i].name = arena_span(mem, a->records[i].name);
		c->records[i].text = arena_span(mem, a->records[i].text);
	}
	return c;
}

void trust_answers_add(struct trust_answers *t, const struct dns_answer *a)
{
	span name = ascii_lower(name_undot(a->name), t->mem);
	struct entry *e = map_get(t->by_key, key_of(t->mem, name, a->type));

	if (e)
		e->answer = copy_answer(t->mem, a);
}

const struct dns_question *trust_answers_missing(struct trust_answers *t, size_t *ret_n)
{
	*ret_n = t->taken ? 0 : t->n_missing;
	t->taken = true;
	return t->missing;
}

size_t trust_answers_count(const struct trust_answers *t)
{
	return map_count(t->by_key);
}
