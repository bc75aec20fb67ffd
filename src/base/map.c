#include "base/map.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/codec.h"

/* Both tables probe linearly over a power of two of slots and mark a deleted slot instead of moving
 * its neighbours, so that map_del does not disturb an iteration.  A rehash drops the marks and
 * sizes the table by what is alive, so that a table that was large once may shrink again. */
enum { SMALLEST = 16 };

static size_t table_size(size_t alive)
{
	size_t cap = SMALLEST;
	while (cap < alive * 2)
		cap *= 2;
	return cap;
}

static bool needs_rehash(size_t cap, size_t filled)
{
	return (filled + 1) * 4 > cap * 3;
}

/* ------------------------------------------------------------------ bytes -> pointer */

enum { HASH_EMPTY, HASH_DELETED, HASH_FIRST };

struct slot {
	uint64_t hash; /* HASH_EMPTY, HASH_DELETED, else the key's */
	char *key;     /* owned */
	size_t n;
	void *value;
};

struct map {
	struct slot *slots;
	size_t cap, count, filled; /* filled: with the deleted */
};

struct map *map_new(void)
{
	return xcalloc(1, sizeof(struct map));
}

void map_free(struct map *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->cap; i++)
		free(m->slots[i].key);
	free(m->slots);
	free(m);
}

static uint64_t key_hash(span key)
{
	uint64_t h = hash_keyed(key);
	return h < HASH_FIRST ? h + HASH_FIRST : h;
}

static struct slot *map_find(const struct map *m, span key, uint64_t hash)
{
	if (!m->cap)
		return NULL;
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct slot *s = &m->slots[i];
		if (s->hash == HASH_EMPTY)
			return NULL;
		if (s->hash == hash && span_eq((span){ s->key, s->n }, key))
			return s;
	}
}

static struct slot *map_vacant(const struct map *m, uint64_t hash)
{
	size_t i = hash & (m->cap - 1);
	while (m->slots[i].hash >= HASH_FIRST)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

static void map_rehash(struct map *m)
{
	struct map old = *m;
	m->cap = table_size(m->count + 1);
	m->slots = xcalloc(m->cap, sizeof(*m->slots));
	m->filled = m->count;
	for (size_t i = 0; i < old.cap; i++) {
		if (old.slots[i].hash >= HASH_FIRST)
			*map_vacant(m, old.slots[i].hash) = old.slots[i];
	}
	free(old.slots);
}

void *map_get(const struct map *m, span key)
{
	struct slot *s = map_find(m, key, key_hash(key));
	return s ? s->value : NULL;
}

void *map_put(struct map *m, span key, void *value)
{
	uint64_t hash = key_hash(key);
	struct slot *s = map_find(m, key, hash);
	if (s) {
		void *old = s->value;
		s->value = value;
		return old;
	}
	if (needs_rehash(m->cap, m->filled))
		map_rehash(m);
	s = map_vacant(m, hash);
	m->filled += s->hash == HASH_EMPTY;
	m->count++;
	*s = (struct slot){ .hash = hash, .key = span_dup(key), .n = key.n, .value = value };
	return NULL;
}

void *map_del(struct map *m, span key)
{
	struct slot *s = map_find(m, key, key_hash(key));
	if (!s)
		return NULL;
	void *old = s->value;
	free(s->key);
	*s = (struct slot){ .hash = HASH_DELETED };
	m->count--;
	return old;
}

size_t map_count(const struct map *m)
{
	return m->count;
}

bool map_next(const struct map *m, size_t *it, span *ret_key, void **ret_value)
{
	for (; *it < m->cap; ++*it) {
		const struct slot *s = &m->slots[*it];
		if (s->hash < HASH_FIRST)
			continue;
		if (ret_key)
			*ret_key = (span){ s->key, s->n };
		if (ret_value)
			*ret_value = s->value;
		++*it;
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ number -> pointer */

/* Key 0 is an empty slot; with `deleted` it once held a key. */
struct idslot {
	uint64_t key;
	union {
		void *value;
		uintptr_t deleted;
	};
};

struct idmap {
	struct idslot *slots;
	size_t cap, count, filled;
};

struct idmap *idmap_new(void)
{
	return xcalloc(1, sizeof(struct idmap));
}

void idmap_free(struct idmap *m)
{
	if (!m)
		return;
	free(m->slots);
	free(m);
}

static size_t id_start(const struct idmap *m, uint64_t key)
{
	return hash_keyed(span_of(&key, sizeof(key))) & (m->cap - 1);
}

static struct idslot *idmap_find(const struct idmap *m, uint64_t key)
{
	assert(key != 0);
	if (!m->cap)
		return NULL;
	for (size_t i = id_start(m, key);; i = (i + 1) & (m->cap - 1)) {
		struct idslot *s = &m->slots[i];
		if (s->key == key)
			return s;
		if (s->key == 0 && !s->deleted)
			return NULL;
	}
}

static struct idslot *idmap_vacant(const struct idmap *m, uint64_t key)
{
	size_t i = id_start(m, key);
	while (m->slots[i].key)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

static void idmap_rehash(struct idmap *m)
{
	struct idmap old = *m;
	m->cap = table_size(m->count + 1);
	m->slots = xcalloc(m->cap, sizeof(*m->slots));
	m->filled = m->count;
	for (size_t i = 0; i < old.cap; i++) {
		if (old.slots[i].key)
			*idmap_vacant(m, old.slots[i].key) = old.slots[i];
	}
	free(old.slots);
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
	struct idslot *s = idmap_find(m, key);
	return s ? s->value : NULL;
}

void *idmap_put(struct idmap *m, uint64_t key, void *value)
{
	struct idslot *s = idmap_find(m, key);
	if (s) {
		void *old = s->value;
		s->value = value;
		return old;
	}
	if (needs_rehash(m->cap, m->filled))
		idmap_rehash(m);
	s = idmap_vacant(m, key);
	m->filled += !s->deleted;
	m->count++;
	*s = (struct idslot){ .key = key, .value = value };
	return NULL;
}

void *idmap_del(struct idmap *m, uint64_t key)
{
	struct idslot *s = idmap_find(m, key);
	if (!s)
		return NULL;
	void *old = s->value;
	*s = (struct idslot){ .deleted = 1 };
	m->count--;
	return old;
}

size_t idmap_count(const struct idmap *m)
{
	return m->count;
}

bool idmap_next(const struct idmap *m, size_t *it, uint64_t *ret_key, void **ret_value)
{
	for (; *it < m->cap; ++*it) {
		const struct idslot *s = &m->slots[*it];
		if (!s->key)
			continue;
		if (ret_key)
			*ret_key = s->key;
		if (ret_value)
			*ret_value = s->value;
		++*it;
		return true;
	}
	return false;
}
