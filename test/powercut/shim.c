/* powercut shim: preloaded into a server, it notes every change of the files below one directory,
 * so that cut.c can tell what a disk would hold had the power failed at any moment.
 *
 * POWERCUT_DIR names the directory, POWERCUT_LOG the journal (outside of it).  Each operation runs
 * and is noted under one lock, so the journal's order is the order of effect; it is noted after it
 * succeeded, so a sync that the caller never heard of counts for nothing.  The journal is written
 * with O_APPEND: it survives SIGKILL, and several processes may share it.
 *
 * Watched files are not really synced: whoever tests with this ends the process, not the machine,
 * and tests run many times faster.
 *
 * Not seen, because the server does not do it: stores through a shared mapping, io_uring, stdio. */
#undef _FILE_OFFSET_BITS /* each name is defined below, not what the headers rename it to */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"

#define LOG_FD_MIN  512 /* out of the way of the fds that roles expect */
#define MAX_WATCHED (1u << 18)
#define MAX_IOV	    1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_n;
static int log_fd = -1; /* -1: this process is not watched */
static dev_t root_dev;
static uint64_t watched[MAX_WATCHED]; /* inodes below root that were opened; open addressing */

/* ------------------------------------------------------------------ start */

/* Of a server's roles only core writes mail; the others are locked in and must not meet us. */
static bool is_other_role(void)
{
	char text[256];
	int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC, 0);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	const char *end = text + n, *arg = text + strlen(text) + 1;
	if (arg >= end || strcmp(arg, "-x") != 0)
		return false;
	arg += sizeof("-x");
	return arg < end && strcmp(arg, "core") != 0;
}

static void die(const char *what)
{
	fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
	abort();
}

__attribute__((constructor)) static void start(void)
{
	const char *dir = getenv("POWERCUT_DIR"), *log = getenv("POWERCUT_LOG");
	struct stat st;
	if (!dir || !log || is_other_role())
		return;
	if (!realpath(dir, root) || stat(root, &st) != 0)
		die(dir);
	root_n = strlen(root);
	root_dev = st.st_dev;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
			      0600);
	if (fd < 0 || (log_fd = fcntl(fd, F_DUPFD_CLOEXEC, LOG_FD_MIN)) < 0)
		die(log);
	close(fd);
}

/* ------------------------------------------------------------------ what is watched */

static uint64_t *watch_slot(uint64_t ino)
{
	uint64_t at = ino * 0x9e3779b97f4a7c15u >> 32;
	for (unsigned i = 0; i < MAX_WATCHED; i++) {
		uint64_t *slot = &watched[(at + i) % MAX_WATCHED];
		if (*slot == ino || *slot == 0)
			return slot;
	}
	die("too many files");
	return NULL;
}

/* Under the lock. */
static void watch(uint64_t ino)
{
	*watch_slot(ino) = ino;
}

/* The inode behind FD if it is a watched file, else 0. */
static uint64_t watched_file(int fd)
{
	struct stat st;
	if (log_fd < 0 || fstat(fd, &st) != 0 || st.st_dev != root_dev || !S_ISREG(st.st_mode))
		return 0;
	pthread_mutex_lock(&lock);
	uint64_t found = *watch_slot(st.st_ino);
	pthread_mutex_unlock(&lock);
	return found;
}

/* PATH below the root as a path relative to it, or NULL. */
static const char *below(const char *path)
{
	if (strncmp(path, root, root_n) != 0)
		return NULL;
	return path[root_n] == '/'    ? path + root_n + 1
	       : path[root_n] == '\0' ? path + root_n
				      : NULL;
}

/* The name of a directory entry: its parent resolved, itself not.  NULL if it is not below root. */
static const char *entry_path(int dirfd, const char *path, char out[PATH_MAX])
{
	char joined[PATH_MAX], parent[PATH_MAX];
	if (log_fd < 0)
		return NULL;
	if (path[0] == '/' || dirfd == AT_FDCWD)
		snprintf(joined, sizeof(joined), "%s%s", path[0] == '/' ? "" : "./", path);
	else
		snprintf(joined, sizeof(joined), "/proc/self/fd/%d/%s", dirfd, path);
	size_t n = strlen(joined);
	while (n > 1 && joined[n - 1] == '/')
		joined[--n] = '\0';
	char *slash = strrchr(joined, '/');
	*slash = '\0';
	if (!realpath(*joined ? joined : "/", parent))
		return NULL;
	if (snprintf(out, PATH_MAX, "%s/%s", parent, slash + 1) >= PATH_MAX)
		return NULL;
	return below(out);
}

static const char *fd_path(int fd, char out[PATH_MAX])
{
	char self[32];
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(self, out, PATH_MAX - 1);
	if (n < 0)
		return NULL;
	out[n] = '\0';
	return below(out);
}

/* ------------------------------------------------------------------ noting */

/* Under the lock; errno is the caller's. */
static void note(struct journal_record r, const char *path, const char *other,
		 const struct iovec *data, int n_data)
{
	struct iovec v[MAX_IOV + 3];
	int n = 0, saved = errno;
	r.magic = JOURNAL_MAGIC;
	r.path_n = path ? (uint32_t)strlen(path) : 0;
	r.other_n = other ? (uint32_t)strlen(other) : 0;
	v[n++] = (struct iovec){ &r, sizeof(r) };
	v[n++] = (struct iovec){ (void *)path, r.path_n };
	v[n++] = (struct iovec){ (void *)other, r.other_n };
	size_t left = r.data_n, all = sizeof(r) + r.path_n + r.other_n + r.data_n;
	for (int i = 0; i < n_data && left; i++) {
		size_t take = data[i].iov_len < left ? data[i].iov_len : left;
		v[n++] = (struct iovec){ data[i].iov_base, take };
		left -= take;
	}
	if (syscall(SYS_writev, log_fd, v, n) != (ssize_t)all)
		die("journal");
	errno = saved;
}

static void note_write(uint64_t ino, uint64_t at, const struct iovec *v, int n, ssize_t written)
{
	struct journal_record r = {
		.op = JOURNAL_WRITE, .ino = ino, .at = at, .data_n = (uint32_t)written
	};
	note(r, NULL, NULL, v, n);
}

/* ------------------------------------------------------------------ opening */

static int opened(int fd, int flags, bool created)
{
	char text[PATH_MAX];
	struct stat st;
	if (fd < 0 || fstat(fd, &st) != 0 || st.st_dev != root_dev || !S_ISREG(st.st_mode))
		return fd;
	const char *path = fd_path(fd, text);
	if (!path)
		return fd;
	bool nameless = (flags & O_TMPFILE) == O_TMPFILE;
	watch(st.st_ino);
	struct journal_record r = { .op = nameless  ? JOURNAL_TMPFILE
					  : created ? JOURNAL_CREATE
						    : JOURNAL_OPEN,
				    .ino = st.st_ino,
				    .mode = st.st_mode & 07777 };
	note(r, nameless ? NULL : path, NULL, NULL, 0);
	if ((flags & O_TRUNC) && !created)
		note((struct journal_record){ .op = JOURNAL_TRUNCATE, .ino = st.st_ino }, NULL,
		     NULL, NULL, 0);
	return fd;
}

static int open_any(int dirfd, const char *path, int flags, mode_t mode)
{
	if (log_fd < 0 || (flags & (O_ACCMODE | O_CREAT)) == O_RDONLY)
		return (int)syscall(SYS_openat, dirfd, path, flags, mode);
	struct stat st;
	pthread_mutex_lock(&lock);
	bool create = (flags & O_CREAT) && fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
		      errno == ENOENT;
	int fd = opened((int)syscall(SYS_openat, dirfd, path, flags, mode), flags, create);
	pthread_mutex_unlock(&lock);
	return fd;
}

static mode_t mode_arg(int flags, va_list ap)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name)                                            \
	int name(const char *path, int flags, ...)            \
	{                                                     \
		va_list ap;                                   \
		va_start(ap, flags);                          \
		mode_t mode = mode_arg(flags, ap);            \
		va_end(ap);                                   \
		return open_any(AT_FDCWD, path, flags, mode); \
	}
#define OPENAT(name)                                          \
	int name(int dirfd, const char *path, int flags, ...) \
	{                                                     \
		va_list ap;                                   \
		va_start(ap, flags);                          \
		mode_t mode = mode_arg(flags, ap);            \
		va_end(ap);                                   \
		return open_any(dirfd, path, flags, mode);    \
	}
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode)
{
	return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
	return creat(path, mode);
}

/* What _FORTIFY_SOURCE makes of the same calls. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

int __open_2(const char *path, int flags)
{
	return open_any(AT_FDCWD, path, flags, 0);
}

int __open64_2(const char *path, int flags)
{
	return open_any(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dirfd, const char *path, int flags)
{
	return open_any(dirfd, path, flags, 0);
}

int __openat64_2(int dirfd, const char *path, int flags)
{
	return open_any(dirfd, path, flags, 0);
}

/* ------------------------------------------------------------------ contents */

/* AT < 0: at the file's own position. */
static ssize_t write_any(int fd, const struct iovec *v, int n, off_t at)
{
	uint64_t ino = n <= MAX_IOV ? watched_file(fd) : 0;
	if (!ino)
		return at < 0 ? syscall(SYS_writev, fd, v, n)
			      : syscall(SYS_pwritev, fd, v, n, at, 0L);
	pthread_mutex_lock(&lock);
	ssize_t r = at < 0 ? syscall(SYS_writev, fd, v, n) : syscall(SYS_pwritev, fd, v, n, at, 0L);
	if (r > 0)
		note_write(ino, (uint64_t)(at < 0 ? lseek(fd, 0, SEEK_CUR) - r : at), v, n, r);
	pthread_mutex_unlock(&lock);
	return r;
}

/* A process that is not watched makes the very system call it asked for: its sandbox may know no
 * other. */
ssize_t write(int fd, const void *p, size_t n)
{
	if (log_fd < 0)
		return syscall(SYS_write, fd, p, n);
	return write_any(fd, &(struct iovec){ (void *)p, n }, 1, -1);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
	if (log_fd < 0 || at < 0)
		return syscall(SYS_pwrite64, fd, p, n, at);
	return write_any(fd, &(struct iovec){ (void *)p, n }, 1, at);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	return pwrite64(fd, p, n, at);
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
	return write_any(fd, v, n, -1);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
	if (at < 0)
		return syscall(SYS_pwritev, fd, v, n, at, 0L);
	return write_any(fd, v, n, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
	return pwritev64(fd, v, n, at);
}

/* Reads back what arrived: the source is of no interest. */
static void note_copied(int fd, uint64_t ino, uint64_t at, ssize_t n)
{
	void *p = malloc((size_t)n);
	if (!p || pread(fd, p, (size_t)n, (off_t)at) != n)
		die("copy_file_range: reading back");
	note_write(ino, at, &(struct iovec){ p, (size_t)n }, 1, n);
	free(p);
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags)
{
	uint64_t ino = watched_file(out);
	if (!ino)
		return syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
	pthread_mutex_lock(&lock);
	uint64_t at = (uint64_t)(out_at ? *out_at : lseek(out, 0, SEEK_CUR));
	ssize_t r = syscall(SYS_copy_file_range, in, in_at, out, out_at, n, flags);
	if (r > 0)
		note_copied(out, ino, at, r);
	pthread_mutex_unlock(&lock);
	return r;
}

int ftruncate64(int fd, off64_t size)
{
	uint64_t ino = watched_file(fd);
	if (!ino)
		return (int)syscall(SYS_ftruncate, fd, size);
	pthread_mutex_lock(&lock);
	int r = (int)syscall(SYS_ftruncate, fd, size);
	if (r == 0)
		note((struct journal_record){ .op = JOURNAL_TRUNCATE,
					      .ino = ino,
					      .at = (uint64_t)size },
		     NULL, NULL, NULL, 0);
	pthread_mutex_unlock(&lock);
	return r;
}

int ftruncate(int fd, off_t size)
{
	return ftruncate64(fd, size);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
	uint64_t ino = watched_file(fd);
	if (!ino)
		return (int)syscall(SYS_fallocate, fd, mode, at, n);
	if (mode != 0) { /* the model knows no holes */
		errno = EOPNOTSUPP;
		return -1;
	}
	pthread_mutex_lock(&lock);
	int r = (int)syscall(SYS_fallocate, fd, mode, at, n);
	if (r == 0)
		note((struct journal_record){ .op = JOURNAL_EXTEND,
					      .ino = ino,
					      .at = (uint64_t)(at + n) },
		     NULL, NULL, NULL, 0);
	pthread_mutex_unlock(&lock);
	return r;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
	return fallocate64(fd, mode, at, n);
}

int posix_fallocate64(int fd, off64_t at, off64_t n)
{
	return fallocate64(fd, 0, at, n) == 0 ? 0 : errno;
}

int posix_fallocate(int fd, off_t at, off_t n)
{
	return posix_fallocate64(fd, at, n);
}

/* ------------------------------------------------------------------ syncs */

/* Directories are noted by name: they are often opened by calls we do not see. */
static bool note_sync_dir(int fd)
{
	char text[PATH_MAX];
	struct stat st;
	if (log_fd < 0 || fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode))
		return false;
	const char *path = fd_path(fd, text);
	if (!path)
		return false;
	pthread_mutex_lock(&lock);
	note((struct journal_record){ .op = JOURNAL_SYNC_DIR }, path, NULL, NULL, 0);
	pthread_mutex_unlock(&lock);
	return true;
}

static int sync_any(int fd, long call)
{
	uint64_t ino = watched_file(fd);
	if (!ino)
		return note_sync_dir(fd) ? 0 : (int)syscall(call, fd);
	pthread_mutex_lock(&lock);
	note((struct journal_record){ .op = JOURNAL_SYNC, .ino = ino }, NULL, NULL, NULL, 0);
	pthread_mutex_unlock(&lock);
	return 0;
}

int fsync(int fd)
{
	return sync_any(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_any(fd, SYS_fdatasync);
}
/* sync_file_range() promises nothing about metadata or the disk's cache, so it is no sync here. */

/* ------------------------------------------------------------------ names */

/* Runs CALL (an expression) and, if it succeeds and one of the names is below root, notes RECORD.
 */
#define NAMED(call, path, other, ...)                                                       \
	({                                                                                  \
		pthread_mutex_lock(&lock);                                                  \
		int r_ = (int)(call);                                                       \
		if (r_ == 0)                                                                \
			note((struct journal_record){ __VA_ARGS__ }, path, other, NULL, 0); \
		pthread_mutex_unlock(&lock);                                                \
		r_;                                                                         \
	})

static int rename_any(int from_fd, const char *from, int to_fd, const char *to, unsigned flags,
		      long call)
{
	char a[PATH_MAX], b[PATH_MAX];
	const char *pa = entry_path(from_fd, from, a), *pb = entry_path(to_fd, to, b);
	if (pa && pb && !(flags & ~RENAME_NOREPLACE))
		return NAMED(syscall(SYS_renameat2, from_fd, from, to_fd, to, flags), pa, pb,
			     .op = JOURNAL_RENAME);
	if (pa || pb) { /* across the border of the model, or an exchange */
		errno = EXDEV;
		return -1;
	}
	return (int)(call == SYS_rename ? syscall(call, from, to)
					: syscall(call, from_fd, from, to_fd, to, flags));
}

int rename(const char *from, const char *to)
{
	return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0, SYS_rename);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	return rename_any(from_fd, from, to_fd, to, 0, SYS_renameat);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	return rename_any(from_fd, from, to_fd, to, flags, SYS_renameat2);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	char text[PATH_MAX];
	struct stat st;
	const char *path = entry_path(to_fd, to, text);
	int follow = (flags & AT_EMPTY_PATH) |
		     (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
	if (!path || fstatat(from_fd, from, &st, follow) != 0)
		return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
	return NAMED(syscall(SYS_linkat, from_fd, from, to_fd, to, flags), NULL, path,
		     .op = JOURNAL_LINK, .ino = st.st_ino);
}

int link(const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	char text[PATH_MAX];
	const char *name = entry_path(dirfd, path, text);
	if (!name)
		return (int)syscall(SYS_unlinkat, dirfd, path, flags);
	return NAMED(syscall(SYS_unlinkat, dirfd, path, flags), name, NULL, .op = JOURNAL_UNLINK);
}

int unlink(const char *path)
{
	return log_fd < 0 ? (int)syscall(SYS_unlink, path) : unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
	return log_fd < 0 ? (int)syscall(SYS_rmdir, path) : unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	char text[PATH_MAX];
	const char *name = entry_path(dirfd, path, text);
	if (!name)
		return (int)syscall(SYS_mkdirat, dirfd, path, mode);
	return NAMED(syscall(SYS_mkdirat, dirfd, path, mode), name, NULL, .op = JOURNAL_MKDIR,
		     .mode = mode & 07777);
}

int mkdir(const char *path, mode_t mode)
{
	return log_fd < 0 ? (int)syscall(SYS_mkdir, path, mode) : mkdirat(AT_FDCWD, path, mode);
}
