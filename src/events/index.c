#include "events/events_int.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sys/file.h"

static const char magic[9] = "PRindex1";
enum { HEAD = 32, KEY_SIZE = 16, ID_SIZE = 24 };

static int by_hash(const void *a, const void *b)
{
	const struct key_entry *x = a, *y = b;
	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int by_id(const void *a, const void *b)
{
	const struct id_entry *x = a, *y = b;
	int c = memcmp(x->id.b, y->id.b, sizeof(x->id.b));
	return c ? c : (x->offset > y->offset) - (x->offset < y->offset);
}

int index_write(struct segment *s, struct entries *e)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(HEAD + e->n_keys * KEY_SIZE +
						     e->n_ids * ID_SIZE);
	if (e->n_keys)
		qsort(e->keys, e->n_keys, sizeof(*e->keys), by_hash);
	if (e->n_ids)
		qsort(e->ids, e->n_ids, sizeof(*e->ids), by_id);
	buf_put(&b, magic, 8);
	buf_put_le64(&b, (uint64_t)e->last);
	buf_put_le64(&b, e->n_keys);
	buf_put_le64(&b, e->n_ids);
	for (size_t i = 0; i < e->n_keys; i++) {
		buf_put_le64(&b, e->keys[i].hash);
		buf_put_le64(&b, e->keys[i].offset);
	}
	for (size_t i = 0; i < e->n_ids; i++) {
		buf_put(&b, e->ids[i].id.b, sizeof(e->ids[i].id.b));
		buf_put_le64(&b, e->ids[i].offset);
	}
	int r = file_replace(s->index, buf_span(&b), 0600);
	if (r < 0)
		return r;
	s->last = e->last;
	s->n_keys = e->n_keys;
	s->n_ids = e->n_ids;
	return 0;
}

static int open_index(const struct segment *s)
{
	int fd = open(s->index, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? ERR_NOENT : fd;
}

int index_open(struct segment *s)
{
	char head[HEAD];
	struct stat st;
	_cleanup_(close_fdp) int fd = open_index(s);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_size < HEAD || file_pread_all(fd, head, HEAD, 0) < 0 ||
	    memcmp(head, magic, 8) != 0)
		return ERR_CORRUPT;
	struct cursor c = cursor_of(span_of(head, HEAD));
	cursor_le64(&c);
	usec last = (usec)cursor_le64(&c);
	uint64_t n_keys = cursor_le64(&c), n_ids = cursor_le64(&c), size = (uint64_t)st.st_size;
	if (n_keys > size / KEY_SIZE || n_ids > size / ID_SIZE ||
	    HEAD + n_keys * KEY_SIZE + n_ids * ID_SIZE != size)
		return ERR_CORRUPT;
	s->last = last;
	s->n_keys = n_keys;
	s->n_ids = n_ids;
	return 0;
}

static int key_at(int fd, uint64_t i, struct key_entry *ret)
{
	char p[KEY_SIZE];
	int r = file_pread_all(fd, p, sizeof(p), HEAD + i * KEY_SIZE);
	struct cursor c = cursor_of(span_of(p, sizeof(p)));
	if (r >= 0)
		*ret = (struct key_entry){ .hash = cursor_le64(&c), .offset = cursor_le64(&c) };
	return r;
}

static int id_at(int fd, const struct segment *s, uint64_t i, struct id_entry *ret)
{
	char p[ID_SIZE];
	int r = file_pread_all(fd, p, sizeof(p), HEAD + s->n_keys * KEY_SIZE + i * ID_SIZE);
	if (r < 0)
		return r;
	struct cursor c = cursor_of(span_of(p, sizeof(p)));
	memcpy(ret->id.b, cursor_bytes(&c, sizeof(ret->id.b)).p, sizeof(ret->id.b));
	ret->offset = cursor_le64(&c);
	return 0;
}

int index_each_key(const struct segment *s, uint64_t hash, index_fn *fn, void *arg)
{
	_cleanup_(close_fdp) int fd = open_index(s);
	uint64_t from = 0, to = s->n_keys; /* the first entry behind HASH lies in [from, to] */
	struct key_entry k;
	int r = fd < 0 ? fd : 0;
	while (r >= 0 && from < to) {
		uint64_t mid = from + (to - from) / 2;
		r = key_at(fd, mid, &k);
		if (r >= 0 && k.hash <= hash)
			from = mid + 1;
		else
			to = mid;
	}
	while (r == 0 && from-- > 0) {
		r = key_at(fd, from, &k);
		if (r < 0 || k.hash != hash)
			break;
		r = fn(arg, k.offset);
	}
	return r;
}

int index_each_id(const struct segment *s, const struct id *id, index_fn *fn, void *arg)
{
	_cleanup_(close_fdp) int fd = open_index(s);
	uint64_t from = 0,
		 to = s->n_ids; /* the first entry of ID or behind it lies in [from, to] */
	struct id_entry e;
	int r = fd < 0 ? fd : 0;
	while (r >= 0 && from < to) {
		uint64_t mid = from + (to - from) / 2;
		r = id_at(fd, s, mid, &e);
		if (r >= 0 && memcmp(e.id.b, id->b, sizeof(id->b)) < 0)
			from = mid + 1;
		else
			to = mid;
	}
	for (; r == 0 && from < s->n_ids; from++) {
		r = id_at(fd, s, from, &e);
		if (r < 0 || !id_eq(&e.id, id))
			break;
		r = fn(arg, e.offset);
	}
	return r;
}
