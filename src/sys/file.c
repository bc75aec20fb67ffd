#include "sys/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/failpoint.h"

#define COPY_PIECE ((size_t)256 * 1024)

/* What a failed read or write means: only a full disk heals by itself. */
static int io_err(int e)
{
	return e == ENOSPC || e == EDQUOT ? ERR_FULL : ERR_IO;
}

/* The directory part of PATH; the caller frees. */
static char *parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	if (!slash)
		return xstrdup(".");
	return span_dup(span_of(path, slash == path ? 1 : (size_t)(slash - path)));
}

int file_sync(int fd)
{
#ifndef SKIP_SYNC_BLOB
	while (fdatasync(fd) != 0) {
		if (errno != EINTR)
			return ERR_SYNC;
	}
#endif
	return 0;
}

int file_sync_dir(const char *dir)
{
	_cleanup_(close_fdp) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_from_errno(errno);
#ifndef SKIP_SYNC_DIR
	while (fsync(fd) != 0) {
		if (errno != EINTR)
			return ERR_SYNC;
	}
#endif
	return 0;
}

static int sync_parent(const char *path)
{
	_cleanup_(freep) char *dir = parent_of(path);
	return file_sync_dir(dir);
}

static int make_dir(const char *path)
{
	if (mkdir(path, 0700) == 0)
		return sync_parent(path);
	if (errno != EEXIST)
		return err_from_errno(errno);
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : ERR_EXIST;
}

int file_mkdirs(const char *path)
{
	_cleanup_(freep) char *copy = xstrdup(path);
	for (char *p = copy + (*copy == '/'); *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		int r = make_dir(copy);
		*p = '/';
		if (r < 0)
			return r;
	}
	size_t n = strlen(copy);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	return n ? make_dir(copy) : ERR_INVAL;
}

int file_write_all(int fd, span data)
{
	while (data.n) {
		ssize_t n = write(fd, data.p, data.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(errno);
		data = span_from(data, (size_t)n);
	}
	return 0;
}

int file_pwrite_all(int fd, span data, uint64_t offset)
{
	while (data.n) {
		ssize_t n = pwrite(fd, data.p, data.n, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return io_err(errno);
		offset += (uint64_t)n;
		data = span_from(data, (size_t)n);
	}
	return 0;
}

int file_read(const char *path, size_t max, struct buf *b)
{
	_cleanup_(close_fdp) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY);
	if (fd < 0)
		return err_from_errno(errno);
	size_t before = b->n;
	for (;;) {
		/* One byte more than allowed: that is how a larger file shows. */
		size_t room = MIN(max - (b->n - before), (size_t)65536), ask = MAX(room, (size_t)1);
		char extra, *to = room ? buf_reserve(b, room) : &extra;
		if (!to) {
			b->failed = false;
			buf_truncate(b, before);
			return ERR_TOOBIG;
		}
		ssize_t n = read(fd, to, ask);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return 0;
		if (n < 0 || !room) {
			buf_truncate(b, before);
			return n < 0 ? ERR_IO : ERR_TOOBIG;
		}
		buf_added(b, (size_t)n);
	}
}

int file_pread_all(int fd, void *p, size_t n, uint64_t offset)
{
	char *to = p;
	while (n) {
		ssize_t got = pread(fd, to, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return ERR_IO;
		if (got == 0)
			return ERR_CORRUPT;
		to += got;
		n -= (size_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

static int copy_by_hand(int from, uint64_t offset, uint64_t n, int to)
{
	_cleanup_(freep) char *piece = xmalloc(COPY_PIECE);
	int r = 0;
	while (n && r == 0) {
		size_t now = (size_t)MIN(n, (uint64_t)COPY_PIECE);
		r = file_pread_all(from, piece, now, offset);
		if (r == 0)
			r = file_write_all(to, span_of(piece, now));
		offset += now;
		n -= now;
	}
	return r;
}

int file_copy_all(int from, uint64_t offset, uint64_t n, int to)
{
	while (n) {
		off_t at = (off_t)offset;
		ssize_t got = copy_file_range(from, &at, to, NULL, MIN(n, (uint64_t)1 << 30), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && io_err(errno) == ERR_FULL)
			return ERR_FULL;
		/* Not every file system can, and some say "nothing more" instead. */
		if (got <= 0)
			return copy_by_hand(from, offset, n, to);
		offset += (uint64_t)got;
		n -= (uint64_t)got;
	}
	return 0;
}

static int write_new(const char *path, span data, unsigned mode)
{
	_cleanup_(close_fdp) int fd = open(
		path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	if (fchmod(fd, mode) != 0)
		return err_from_errno(errno);
	int r = file_write_all(fd, data);
	FAILPOINT("file.replace.written");
	return r < 0 ? r : file_sync(fd);
}

int file_replace(const char *path, span data, unsigned mode)
{
	/* A fixed name: what a crash left is overwritten by the next attempt. */
	size_t size = strlen(path) + sizeof(".new");
	_cleanup_(freep) char *temp = xmalloc(size);
	snprintf(temp, size, "%s.new", path);
	int r = write_new(temp, data, mode);
	FAILPOINT("file.replace.synced");
	if (r == 0 && rename(temp, path) != 0)
		r = err_from_errno(errno);
	FAILPOINT("file.replace.renamed");
	if (r < 0) {
		unlink(temp);
		return r;
	}
	return sync_parent(path);
}

int file_remove(const char *path)
{
	if (unlink(path) != 0 && errno != ENOENT)
		return err_from_errno(errno);
	return 0;
}

int file_disk_free(const char *dir, uint64_t *ret_bytes)
{
	struct statvfs v;
	if (statvfs(dir, &v) != 0)
		return err_from_errno(errno);
	*ret_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

int file_spool_open(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? err_from_errno(errno) : fd;
}

int file_spool_link(int fd, const char *path)
{
	char self[32];
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	FAILPOINT("file.spool.written");
	int r = file_sync(fd);
	if (r < 0)
		return r;
	FAILPOINT("file.spool.synced");
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) != 0)
		return err_from_errno(errno);
	FAILPOINT("file.spool.linked");
	return sync_parent(path);
}
