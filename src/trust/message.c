#include "trust/message.h"

#include "base/codec.h"
#include "format/header.h"

/* Keyed, case-insensitive, over all of NAME: block by block, each with the hash so far. */
static uint64_t name_hash(span name)
{
	char block[sizeof(uint64_t) + 56];
	uint64_t h = 0;

	for (size_t at = 0; at < name.n; at += 56) {
		span piece = span_sub(name, at, 56);

		memcpy(block, &h, sizeof(h));
		for (size_t i = 0; i < piece.n; i++)
			block[sizeof(h) + i] = (char)(piece.p[i] | 0x20);
		h = hash_keyed(span_of(block, sizeof(h) + piece.n));
	}
	return h;
}

static uint32_t *slot_of(const struct message *m, span name)
{
	for (uint64_t at = name_hash(name);; at++) {
		uint32_t *slot = &m->slot[at & m->slot_mask];
		if (!*slot || span_ieq(m->field[m->lowest[*slot - 1]].name, name))
			return slot;
	}
}

/* Gives equal names one id and links their fields upwards. */
static void link_names(struct message *m, struct arena *mem)
{
	uint32_t places = 16;

	while (places < 2 * m->n + 1)
		places *= 2;
	m->slot = arena_array(mem, uint32_t, places);
	m->slot_mask = places - 1;
	m->lowest = arena_array(mem, uint32_t, m->n + 1);
	for (uint32_t i = 0; i < m->n; i++) {
		struct message_field *f = &m->field[i];
		uint32_t *slot = slot_of(m, f->name);

		f->above = *slot ? m->lowest[*slot - 1] : MESSAGE_NO_FIELD;
		if (!*slot)
			*slot = ++m->n_ids;
		f->id = *slot - 1;
		m->lowest[f->id] = i;
	}
}

static span chop(span raw)
{
	if (raw.n && raw.p[raw.n - 1] == '\n')
		raw.n--;
	if (raw.n && raw.p[raw.n - 1] == '\r')
		raw.n--;
	return raw;
}

int message_parse(span text, struct arena *mem, struct message *ret)
{
	struct message m = { 0 };
	struct header_field f;
	size_t at = 0, count = 0;

	while (header_next_field(text, &at, &f)) {
		if (++count > MESSAGE_FIELDS_MAX || at > MESSAGE_HEADER_MAX)
			return ERR_TOOBIG;
	}
	m.body = span_from(text, at);
	m.field = arena_array(mem, struct message_field, count + 1);
	for (at = 0; header_next_field(text, &at, &f); m.n++)
		m.field[m.n] = (struct message_field){ .name = f.name,
						       .value = f.value,
						       .raw = chop(f.raw) };
	link_names(&m, mem);
	*ret = m;
	return 0;
}

uint32_t message_id(const struct message *m, span name)
{
	uint32_t slot = *slot_of(m, name);

	return slot ? slot - 1 : MESSAGE_NO_FIELD;
}

uint32_t message_find(const struct message *m, const char *name, uint32_t from)
{
	for (; from < m->n; from++) {
		if (span_ieq_str(m->field[from].name, name))
			return from;
	}
	return MESSAGE_NO_FIELD;
}
