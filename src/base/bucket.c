#include "base/bucket.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/codec.h"

enum { WAYS = 8 };

struct bucket {
	uint64_t tag; /* keyed hash of the key; 64 bits tell all keys apart that fit the table */
	usec full_at; /* before NOW: nobody is missing here */
};

struct bucket_table {
	size_t sets; /* a power of two */
	struct bucket bucket[];
};

struct bucket_table *bucket_table_new(size_t keys)
{
	size_t sets = 1;
	while (sets * WAYS < keys)
		sets *= 2;
	struct bucket_table *t = xcalloc(1, sizeof(*t) + sets * WAYS * sizeof(struct bucket));
	t->sets = sets;
	return t;
}

void bucket_table_free(struct bucket_table *t)
{
	free(t);
}

/* The bucket of TAG; if it has none, the one that would have to make room. */
static struct bucket *find(struct bucket_table *t, uint64_t tag)
{
	struct bucket *set = &t->bucket[(tag & (t->sets - 1)) * WAYS], *fullest = set;
	for (size_t i = 0; i < WAYS; i++) {
		if (set[i].tag == tag)
			return &set[i];
		if (set[i].full_at < fullest->full_at)
			fullest = &set[i];
	}
	return fullest;
}

static usec interval(struct bucket_rate rate)
{
	return MAX(rate.period / rate.count, (usec)1);
}

/* How long a bucket that is full again at FULL_AT makes its owner wait. */
static usec wait_of(usec full_at, struct bucket_rate rate, usec now)
{
	usec after = MAX(full_at, now) + interval(rate);
	return MAX(after - now - interval(rate) * rate.count, (usec)0);
}

usec bucket_wait(struct bucket_table *t, span key, struct bucket_rate rate, usec now)
{
	return rate.count ? wait_of(find(t, hash_keyed(key))->full_at, rate, now) : 0;
}

usec bucket_take(struct bucket_table *t, span key, struct bucket_rate rate, usec now)
{
	uint64_t tag = hash_keyed(key);
	if (rate.count == 0)
		return 0;
	struct bucket *b = find(t, tag);
	usec wait = wait_of(b->full_at, rate, now);
	b->tag = tag; /* with what the one before it owed */
	if (wait == 0)
		b->full_at = MAX(b->full_at, now) + interval(rate);
	return wait;
}

void bucket_forget(struct bucket_table *t, span key)
{
	uint64_t tag = hash_keyed(key);
	struct bucket *b = find(t, tag);
	if (b->tag == tag)
		b->full_at = 0;
}
