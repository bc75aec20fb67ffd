/* Cache of open handles: bounded by count, least recently used first. */
#include <assert.h>
#include <stdlib.h>

#include "base/map.h"
#include "db/db_int.h"

enum entry_state { ENTRY_OPENING, ENTRY_OPEN, ENTRY_CLOSING };

struct entry {
	char *path;
	enum entry_state state;
	bool doomed; /* close as soon as it is idle; no further get */
	unsigned refs;
	struct db *d;
	void *owner;		   /* of the hooks */
	struct entry *prev, *next; /* idle list: least recently used first */
};

struct db_cache {
	pthread_mutex_t mu;
	pthread_cond_t changed; /* an entry left OPENING or CLOSING */
	size_t max, open;
	struct map *by_path;
	struct idmap *by_handle;
	struct entry idle; /* list head */
	struct db_cache_hooks hooks;
};

struct db_cache *db_cache_new(size_t max_handles)
{
	struct db_cache *c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->mu, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->max = MAX(max_handles, 1);
	c->by_path = map_new();
	c->by_handle = idmap_new();
	c->idle.prev = c->idle.next = &c->idle;
	return c;
}

void db_cache_set_hooks(struct db_cache *c, const struct db_cache_hooks *h)
{
	c->hooks = *h;
}

static void idle_add(struct db_cache *c, struct entry *e)
{
	e->prev = c->idle.prev;
	e->next = &c->idle;
	e->prev->next = e;
	c->idle.prev = e;
}

static void idle_del(struct entry *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	e->prev = e->next = NULL;
}

static void entry_forget(struct db_cache *c, struct entry *e)
{
	map_del(c->by_path, span_str(e->path));
	free(e->path);
	free(e);
	pthread_cond_broadcast(&c->changed);
}

/* Closes an idle entry that is in no list; releases the mutex meanwhile. */
static void entry_close(struct db_cache *c, struct entry *e)
{
	assert(e->refs == 0);
	e->state = ENTRY_CLOSING;
	/* Before it is closed: the next handle may get its address. */
	idmap_del(c->by_handle, (uintptr_t)e->d);
	pthread_mutex_unlock(&c->mu);
	if (c->hooks.on_close)
		c->hooks.on_close(e->d, e->owner, c->hooks.arg);
	db_close(e->d);
	pthread_mutex_lock(&c->mu);
	c->open--;
	entry_forget(c, e);
}

static void trim_to(struct db_cache *c, size_t limit)
{
	while (c->open > limit && c->idle.next != &c->idle) {
		struct entry *e = c->idle.next;
		idle_del(e);
		entry_close(c, e);
	}
}

/* Opens E's database; releases the mutex meanwhile. */
static int entry_open(struct db_cache *c, struct entry *e, const struct db_schema *schema,
		      unsigned flags, struct err_info *info)
{
	pthread_mutex_unlock(&c->mu);
	struct db *d = NULL;
	int r = db_open(e->path, schema, flags, &d, info);
	if (!r && c->hooks.on_open)
		e->owner = c->hooks.on_open(d, e->path, c->hooks.arg);
	pthread_mutex_lock(&c->mu);
	if (r) {
		entry_forget(c, e);
		return r;
	}
	e->d = d;
	e->state = ENTRY_OPEN;
	c->open++;
	idmap_put(c->by_handle, (uintptr_t)d, e);
	pthread_cond_broadcast(&c->changed);
	return 0;
}

int db_cache_get(struct db_cache *c, const char *path, const struct db_schema *schema,
		 unsigned flags, struct db **ret, void **ret_state, struct err_info *info)
{
	struct entry *e;
	int r = 0;
	pthread_mutex_lock(&c->mu);
	while ((e = map_get(c->by_path, span_str(path))) && e->state != ENTRY_OPEN)
		pthread_cond_wait(&c->changed, &c->mu);
	if (e && e->doomed) {
		r = err_set(info, ERR_AGAIN, "%s: is being closed", path);
	} else if (e) {
		if (e->refs++ == 0)
			idle_del(e);
	} else {
		/* Maintenance keeps the limit; where it falls behind, the newcomer pays. */
		trim_to(c, 2 * c->max);
		if (map_get(c->by_path, span_str(path))) { /* the trim let another thread in */
			pthread_mutex_unlock(&c->mu);
			return db_cache_get(c, path, schema, flags, ret, ret_state, info);
		}
		e = xcalloc(1, sizeof(*e));
		e->path = xstrdup(path);
		e->refs = 1;
		map_put(c->by_path, span_str(path), e);
		r = entry_open(c, e, schema, flags, info);
	}
	if (!r) {
		*ret = e->d;
		if (ret_state)
			*ret_state = e->owner;
	}
	pthread_mutex_unlock(&c->mu);
	return r;
}

void db_cache_put(struct db_cache *c, struct db *d)
{
	pthread_mutex_lock(&c->mu);
	struct entry *e = idmap_get(c->by_handle, (uintptr_t)d);
	assert(e && e->refs > 0);
	if (--e->refs == 0) {
		if (e->doomed)
			entry_close(c, e);
		else
			idle_add(c, e);
	}
	pthread_mutex_unlock(&c->mu);
}

void db_cache_trim(struct db_cache *c)
{
	pthread_mutex_lock(&c->mu);
	trim_to(c, c->max);
	pthread_mutex_unlock(&c->mu);
}

void db_cache_drop(struct db_cache *c, const char *path)
{
	pthread_mutex_lock(&c->mu);
	struct entry *e;
	while ((e = map_get(c->by_path, span_str(path))) && e->state != ENTRY_OPEN)
		pthread_cond_wait(&c->changed, &c->mu);
	if (e && !e->doomed) {
		e->doomed = true;
		if (e->refs == 0) {
			idle_del(e);
			entry_close(c, e);
		}
	}
	pthread_mutex_unlock(&c->mu);
}

size_t db_cache_open(struct db_cache *c)
{
	pthread_mutex_lock(&c->mu);
	size_t n = c->open;
	pthread_mutex_unlock(&c->mu);
	return n;
}

void db_cache_each(struct db_cache *c, void (*fn)(struct db *d, void *state, void *arg), void *arg)
{
	pthread_mutex_lock(&c->mu);
	size_t n = 0, cap = map_count(c->by_path), it = 0;
	struct entry **all = xcalloc(cap + 1, sizeof(struct entry *));
	void *v;
	span key;
	while (map_next(c->by_path, &it, &key, &v)) {
		struct entry *e = v;
		if (e->state != ENTRY_OPEN || e->doomed)
			continue;
		if (e->refs++ == 0)
			idle_del(e);
		all[n++] = e;
	}
	pthread_mutex_unlock(&c->mu);
	for (size_t i = 0; i < n; i++) {
		fn(all[i]->d, all[i]->owner, arg);
		db_cache_put(c, all[i]->d);
	}
	free(all);
}

void db_cache_free(struct db_cache *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->mu);
	trim_to(c, 0);
	assert(c->open == 0); /* a handle is still in use */
	pthread_mutex_unlock(&c->mu);
	map_free(c->by_path);
	idmap_free(c->by_handle);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->mu);
	free(c);
}
