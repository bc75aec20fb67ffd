/* map: hash table from bytes or from a 64-bit number to a pointer.  Open addressing, keyed hash
 * (peer-chosen keys cannot flood it), not thread-safe.  Keys of map are copied; values are not owned. */
#pragma once

#include "base/span.h"

struct map;
struct map *map_new(void);
void map_free(struct map *m); /* NULL is fine; values are not freed */
DEFINE_CLEANUP(struct map, map_free)
void *map_get(const struct map *m, span key);           /* NULL if absent */
void *map_put(struct map *m, span key, void *value);    /* returns the value replaced, or NULL */
void *map_del(struct map *m, span key);                 /* returns the value removed, or NULL */
size_t map_count(const struct map *m);
/* Iteration in no order: start with *IT = 0; false at the end.  map_del of the current key is allowed. */
bool map_next(const struct map *m, size_t *it, span *ret_key, void **ret_value);

struct idmap; /* key: non-zero uint64_t */
struct idmap *idmap_new(void);
void idmap_free(struct idmap *m);
DEFINE_CLEANUP(struct idmap, idmap_free)
void *idmap_get(const struct idmap *m, uint64_t key);
void *idmap_put(struct idmap *m, uint64_t key, void *value);
void *idmap_del(struct idmap *m, uint64_t key);
size_t idmap_count(const struct idmap *m);
bool idmap_next(const struct idmap *m, size_t *it, uint64_t *ret_key, void **ret_value);
