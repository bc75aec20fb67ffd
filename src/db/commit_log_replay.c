/* Reading the commit log. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/codec.h"
#include "base/map.h"
#include "db/commit_log.h"
#include "db/commit_log_int.h"
#include "sys/file.h"

static const char magic[8] = "PRclog1\n";

void clog_head_put(struct buf *b, uint64_t segment_bytes, uint64_t epoch)
{
	size_t from = b->n;
	buf_put(b, magic, sizeof(magic));
	buf_put_le64(b, segment_bytes);
	buf_put_le64(b, epoch);
	buf_put_le32(b, crc32c(0, span_from(buf_span(b), from)));
}

void clog_record_put(struct buf *b, const struct clog_record *r)
{
	size_t from = b->n;
	buf_put_le32(b, 0);
	buf_put_le32(b, r->sum);
	buf_put_le32(b, (uint32_t)r->data.n);
	buf_put_le16(b, (uint16_t)r->kind);
	buf_put_le16(b, (uint16_t)r->path.n);
	buf_put_le64(b, r->epoch);
	buf_put_le64(b, r->at);
	buf_put_span(b, r->path);
	uint32_t crc = crc32c(0, span_from(buf_span(b), from + 4));
	for (int i = 0; i < 4; i++)
		b->p[from + (size_t)i] = (char)(crc >> (8 * i));
}

/* ------------------------------------------------------------------ reading */

struct reader {
	int fd;
	uint64_t at, end, epoch;
	struct buf bytes; /* of the last record */
};

/* Exactly N bytes at AT into B, which is emptied: 1; 0: the file ends before. */
static int read_bytes(int fd, uint64_t at, size_t n, struct buf *b)
{
	buf_reset(b);
	char *p = buf_reserve(b, n);
	if (!p)
		return 0; /* longer than any record */
	int r = file_pread_all(fd, p, n, at);
	if (r < 0)
		return r == ERR_CORRUPT ? 0 : r;
	buf_added(b, n);
	return 1;
}

/* 1: a head; 0: none. */
static int read_head(int fd, uint64_t at, uint64_t *ret_segment_bytes, uint64_t *ret_epoch)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CLOG_HEAD);
	int r = read_bytes(fd, at, CLOG_HEAD, &b);
	if (r <= 0)
		return r;
	struct cursor c = cursor_of(buf_span(&b));
	bool ours = span_eq(cursor_bytes(&c, sizeof(magic)), span_of(magic, sizeof(magic)));
	*ret_segment_bytes = cursor_le64(&c);
	*ret_epoch = cursor_le64(&c);
	return ours && cursor_le32(&c) == crc32c(0, span_sub(buf_span(&b), 0, CLOG_HEAD - 4));
}

/* 1: *RET, which points into R; 0: the segment ends here. */
static int next_record(struct reader *r, struct clog_record *ret)
{
	int got = read_bytes(r->fd, r->at, CLOG_RECORD_HEAD, &r->bytes);
	if (got <= 0)
		return got;
	struct cursor c = cursor_of(buf_span(&r->bytes));
	uint32_t crc = cursor_le32(&c);
	struct clog_record rec = { .sum = cursor_le32(&c) };
	size_t data_n = cursor_le32(&c);
	rec.kind = (enum clog_kind)cursor_le16(&c);
	size_t path_n = cursor_le16(&c);
	rec.epoch = cursor_le64(&c);
	rec.at = cursor_le64(&c);
	size_t whole = CLOG_RECORD_HEAD + path_n + data_n;
	if (rec.epoch != r->epoch || path_n > CLOG_PATH || whole > r->end - r->at)
		return 0;
	got = read_bytes(r->fd, r->at, whole, &r->bytes);
	if (got <= 0)
		return got;
	span all = buf_span(&r->bytes);
	rec.path = span_sub(all, CLOG_RECORD_HEAD, path_n);
	rec.data = span_from(all, CLOG_RECORD_HEAD + path_n);
	if (crc32c(0, span_sub(all, 4, CLOG_RECORD_HEAD - 4 + path_n)) != crc ||
	    crc32c(0, rec.data) != rec.sum)
		return 0;
	r->at += whole;
	*ret = rec;
	return 1;
}

typedef int record_fn(void *arg, const struct clog_record *r, uint64_t number);

static int read_segment(int fd, uint64_t at, uint64_t segment_bytes, uint64_t epoch, record_fn *fn,
			void *arg, uint64_t *number)
{
	struct reader rd = { .fd = fd,
			     .at = at + CLOG_HEAD,
			     .end = at + segment_bytes,
			     .epoch = epoch,
			     .bytes = BUF_INIT(CLOG_RECORD_HEAD + CLOG_PATH + CLOG_BYTES) };
	struct clog_record rec;
	int r;
	while ((r = next_record(&rd, &rec)) > 0 && (r = fn(arg, &rec, ++*number)) >= 0)
		;
	buf_done(&rd.bytes);
	return r;
}

/* FN for every record, in order.  The first head is written with the first record and never torn
 * (it lies in one sector): without it nothing was ever acknowledged. */
static int each_record(int fd, record_fn *fn, void *arg)
{
	uint64_t size[CLOG_SEGMENTS], epoch[CLOG_SEGMENTS] = { 0 }, number = 0;
	int r = read_head(fd, 0, &size[0], &epoch[0]);
	if (r <= 0)
		return r;
	r = read_head(fd, size[0], &size[1], &epoch[1]);
	if (r < 0)
		return r;
	if (r == 0)
		epoch[1] = 0;
	unsigned first = epoch[1] < epoch[0]; /* the older one */
	for (unsigned i = 0; i < CLOG_SEGMENTS && r >= 0; i++) {
		unsigned s = i ? first ^ 1 : first;
		if (epoch[s])
			r = read_segment(fd, s * size[0], size[0], epoch[s], fn, arg, &number);
	}
	return r;
}

/* ------------------------------------------------------------------ replaying */

struct file {
	uint64_t barrier; /* the number of its last one */
	bool gone;
};

struct replay {
	struct map *files; /* by path */
	const char *dir;   /* NULL: only the file open as FD */
	span only;
	int fd;
};

static struct file *file_of(struct replay *p, span path)
{
	struct file *f = map_get(p->files, path);
	if (!f) {
		f = xcalloc(1, sizeof(*f));
		map_put(p->files, path, f);
	}
	return f;
}

static int note(void *arg, const struct clog_record *r, uint64_t number)
{
	struct replay *p = arg;
	if (p->only.n && !span_eq(r->path, p->only))
		return 0;
	struct file *f = file_of(p, r->path);
	if (r->kind == CLOG_BARRIER)
		f->barrier = number;
	return 0;
}

/* The file, or ERR_NOENT. */
static int open_wal(const struct replay *p, span path)
{
	_cleanup_(buf_donep) struct buf whole = BUF_INIT(8192);
	buf_put_str(&whole, p->dir);
	buf_put_span(&whole, path);
	int fd = open(buf_cstr(&whole), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_from_errno(errno) : fd;
}

static int apply(void *arg, const struct clog_record *r, uint64_t number)
{
	struct replay *p = arg;
	struct file *f = map_get(p->files, r->path);
	if (!f || f->gone || number <= f->barrier || r->kind != CLOG_DATA)
		return 0;
	if (!p->dir)
		return file_pwrite_all(p->fd, r->data, r->at);
	_cleanup_(close_fdp) int fd = open_wal(p, r->path);
	f->gone = fd == ERR_NOENT;
	return fd < 0 ? (f->gone ? 0 : STEAL_FD(&fd)) : file_pwrite_all(fd, r->data, r->at);
}

static int sync_files(struct replay *p)
{
	size_t it = 0;
	span path;
	void *v;
	int r = 0;
	while (r >= 0 && map_next(p->files, &it, &path, &v)) {
		if (((struct file *)v)->gone)
			continue;
		_cleanup_(close_fdp) int fd = open_wal(p, path);
		r = fd >= 0 ? file_sync(fd) : fd == ERR_NOENT ? 0 : fd;
	}
	return r;
}

static int run(struct replay *p, int log)
{
	size_t it = 0;
	void *v;
	p->files = map_new();
	int r = each_record(log, note, p);
	if (r >= 0)
		r = each_record(log, apply, p);
	if (r >= 0 && p->dir)
		r = sync_files(p);
	while (map_next(p->files, &it, &(span){ 0 }, &v))
		free(v);
	map_free(p->files);
	return r;
}

int clog_replay_file(int log, const char *path, int fd)
{
	struct replay p = { .only = span_str(path), .fd = fd };
	return run(&p, log);
}

int clog_replay(int log, const char *dir)
{
	struct replay p = { .dir = dir, .fd = -1 };
	return run(&p, log);
}
