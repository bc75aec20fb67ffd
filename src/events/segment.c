#include "events/events_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/codec.h"
#include "sys/file.h"

static const char magic[SEGMENT_HEAD + 1] = "PRevent1";

/* ------------------------------------------------------------------ entries */

void entries_add(struct entries *e, const struct id *id, usec at, uint64_t offset)
{
	if (e->n_ids == e->cap_ids) {
		e->cap_ids = e->cap_ids ? e->cap_ids * 2 : 256;
		e->ids = xrealloc(e->ids, e->cap_ids * sizeof(*e->ids));
	}
	e->ids[e->n_ids++] = (struct id_entry){ .id = *id, .offset = offset };
	e->last = MAX(e->last, at);
}

void entries_add_key(struct entries *e, span key, uint64_t offset)
{
	if (e->n_keys == e->cap_keys) {
		e->cap_keys = e->cap_keys ? e->cap_keys * 2 : 256;
		e->keys = xrealloc(e->keys, e->cap_keys * sizeof(*e->keys));
	}
	e->keys[e->n_keys++] = (struct key_entry){ .hash = hash_stable(key), .offset = offset };
}

void entries_append(struct entries *e, const struct entries *from, uint64_t base)
{
	for (size_t i = 0; i < from->n_ids; i++)
		entries_add(e, &from->ids[i].id, from->last, base + from->ids[i].offset);
	for (size_t i = 0; i < from->n_keys; i++) {
		if (e->n_keys == e->cap_keys) {
			e->cap_keys = e->cap_keys ? e->cap_keys * 2 : 256;
			e->keys = xrealloc(e->keys, e->cap_keys * sizeof(*e->keys));
		}
		e->keys[e->n_keys++] = (struct key_entry){ .hash = from->keys[i].hash,
							   .offset = base + from->keys[i].offset };
	}
}

void entries_reset(struct entries *e)
{
	e->n_keys = e->n_ids = 0;
	e->last = 0;
}

void entries_done(struct entries *e)
{
	free(e->keys);
	free(e->ids);
	*e = (struct entries){ 0 };
}

/* ------------------------------------------------------------------ records */

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

span key_lower(span key, struct arena *mem)
{
	char *p = arena_alloc(mem, key.n + 1);
	for (size_t i = 0; i < key.n; i++)
		p[i] = lower(key.p[i]);
	return span_of(p, key.n);
}

static void put_keys(struct buf *b, struct entries *e, uint64_t offset, const span *keys, size_t n)
{
	n = MIN(n, (size_t)KEYS_MAX);
	buf_put_le16(b, (uint16_t)n);
	for (size_t i = 0; i < n; i++) {
		size_t len = MIN(keys[i].n, (size_t)KEY_MAX);
		buf_put_le32(b, (uint32_t)len);
		char *p = buf_reserve(b, len);
		if (!p)
			return;
		for (size_t j = 0; j < len; j++)
			p[j] = lower(keys[i].p[j]);
		buf_added(b, len);
		entries_add_key(e, span_of(b->p + b->n - len, len), offset);
	}
}

static void put_step(struct buf *b, const struct event *ev)
{
	uint16_t n = 0;
	buf_put_blob(b, span_str(ev->name));
	buf_put_le64(b, (uint64_t)ev->at);
	for (const struct event_field *f = ev->fields; f && n < UINT16_MAX; f = f->next)
		n++;
	buf_put_le16(b, n);
	for (const struct event_field *f = ev->fields; n > 0; f = f->next, n--) {
		buf_put_blob(b, span_str(f->key));
		buf_put_blob(b, f->value);
	}
}

static void patch_le32(char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char)(v >> 8 * i);
}

bool record_put(struct buf *b, struct entries *e, const struct id *id, const struct event_list *l,
		const span *keys, size_t n_keys)
{
	size_t start = b->n, keys_before = e->n_keys;
	usec now = clock_wall();
	buf_put_le64(b, 0); /* length and crc, patched below */
	buf_put(b, id->b, sizeof(id->b));
	buf_put_le64(b, (uint64_t)now);
	put_keys(b, e, start, keys, n_keys);
	for (const struct event *ev = l->first; ev && !b->failed; ev = ev->next) {
		size_t before = b->n;
		put_step(b, ev);
		if (b->n - start >
		    RECORD_MAX) { /* the first steps say most; the record stays readable */
			buf_truncate(b, before);
			break;
		}
	}
	if (b->failed) {
		buf_truncate(b, start);
		b->failed = false;
		e->n_keys = keys_before;
		return false;
	}
	span payload = span_of(b->p + start + RECORD_HEAD, b->n - start - RECORD_HEAD);
	patch_le32(b->p + start, (uint32_t)payload.n);
	patch_le32(b->p + start + 4, crc32c(0, payload));
	entries_add(e, id, now, start);
	return true;
}

static int decode(span payload, struct record *r)
{
	struct cursor c = cursor_of(payload);
	span id = cursor_bytes(&c, sizeof(r->id.b));
	r->at = (usec)cursor_le64(&c);
	r->n_keys = cursor_le16(&c);
	if (c.bad || r->n_keys > KEYS_MAX)
		return ERR_CORRUPT;
	memcpy(r->id.b, id.p, sizeof(r->id.b));
	for (size_t i = 0; i < r->n_keys; i++)
		r->keys[i] = cursor_blob(&c);
	r->steps = c;
	return c.bad ? ERR_CORRUPT : 0;
}

int record_read(int fd, uint64_t offset, uint64_t size, struct arena *mem, struct record *ret,
		uint64_t *ret_next)
{
	char head[RECORD_HEAD];
	if (offset > size || size - offset < RECORD_HEAD ||
	    file_pread_all(fd, head, sizeof(head), offset) < 0)
		return ERR_CORRUPT;
	struct cursor c = cursor_of(span_of(head, sizeof(head)));
	uint32_t n = cursor_le32(&c), crc = cursor_le32(&c);
	if (n > RECORD_MAX || size - offset - RECORD_HEAD < n)
		return ERR_CORRUPT;
	char *p = arena_alloc(mem, n);
	if (file_pread_all(fd, p, n, offset + RECORD_HEAD) < 0 || crc32c(0, span_of(p, n)) != crc)
		return ERR_CORRUPT;
	int r = decode(span_of(p, n), ret);
	if (r >= 0 && ret_next)
		*ret_next = offset + RECORD_HEAD + n;
	return r;
}

void record_steps(const struct record *r, struct event_list *l)
{
	struct cursor c = r->steps;
	while (!c.bad && !cursor_at_end(&c)) {
		span name = cursor_blob(&c);
		usec at = (usec)cursor_le64(&c);
		uint16_t n = cursor_le16(&c);
		if (c.bad)
			return;
		struct event *e = event_note(l, arena_cstr(l->mem, name));
		e->at = at;
		for (uint16_t i = 0; i < n && !c.bad; i++) {
			span key = cursor_blob(&c), value = cursor_blob(&c);
			if (!c.bad)
				event_span(e, arena_cstr(l->mem, key), value, l->mem);
		}
	}
}

/* ------------------------------------------------------------------ files */

struct segment *segment_new(const char *dir, uint64_t start)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096);
	struct segment *s = xcalloc(1, sizeof(*s));
	s->start = start;
	buf_printf(&b, "%s/%016llx.log", dir, (unsigned long long)start);
	s->path = xstrdup(buf_cstr(&b));
	buf_truncate(&b, b.n - 3);
	buf_put_str(&b, "idx");
	s->index = xstrdup(buf_cstr(&b));
	return s;
}

void segment_free(struct segment *s)
{
	if (!s)
		return;
	free(s->path);
	free(s->index);
	free(s);
}

int segment_create(const struct segment *s)
{
	int fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_APPEND, 0600);
	if (fd < 0)
		return ERR_IO;
	int r = file_write_all(fd, span_of(magic, SEGMENT_HEAD));
	if (r < 0) {
		close(fd);
		file_remove(s->path);
		return r;
	}
	return fd;
}

int segment_scan(int fd, struct entries *e, uint64_t *ret_size)
{
	struct stat st;
	char head[SEGMENT_HEAD];
	_cleanup_(arena_donep) struct arena mem = { 0 };
	if (fstat(fd, &st) < 0)
		return ERR_IO;
	uint64_t size = (uint64_t)st.st_size, at = SEGMENT_HEAD;
	if (size < SEGMENT_HEAD || file_pread_all(fd, head, sizeof(head), 0) < 0 ||
	    memcmp(head, magic, sizeof(head)) != 0)
		return ERR_CORRUPT;
	for (;;) {
		struct record r;
		uint64_t next;
		if (record_read(fd, at, size, &mem, &r, &next) < 0)
			break;
		entries_add(e, &r.id, r.at, at);
		for (size_t i = 0; i < r.n_keys; i++)
			entries_add_key(e, r.keys[i], at);
		at = next;
		arena_reset(&mem);
	}
	*ret_size = at;
	return 0;
}
