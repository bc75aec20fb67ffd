/* powercut cut: builds what a disk would hold had the power failed at the end of a journal.
 *
 *   cut JOURNAL BASE OUT SEED
 *
 * BASE is a copy of the watched directory from before the journal began, all of it on disk; OUT, on
 * the same file system, must not exist (files that did not change become links to those of BASE).
 *
 * The model of a disk, as strict as POSIX allows it to be:
 *  - What a file held at its last sync is there.  Of each later write every 512-byte sector is
 *    there or not, by chance; the same goes for changes of size.  A sector that never arrived
 *    within the size reads as zeros.
 *  - A name (create, link, rename, unlink, mkdir) is certain once its directory was synced after
 *    it; syncing the file itself is not enough.  Of the others any may be missing, but one entry's
 *    history stays in order, and a rename happens as a whole.
 * How much of what is uncertain gets lost is drawn per file: all, nothing, single writes, single
 * sectors, or everything after some moment. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/util.h"
#include "journal.h"

#define SECTOR 512u

struct change { /* of a file, since its last sync */
	struct journal_record r;
	const char *data;
};

struct entry {
	char *name;
	struct node *node; /* NULL: no such name */
	bool uncertain;	   /* only while the cut is made: its history was broken off */
};

struct names {
	struct entry *v;
	size_t n;
};

struct node {
	bool is_dir, changed; /* changed: DATA holds the content, else it is still that of BASE */
	bool placed;	      /* it has a name in OUT, LOCATION */
	unsigned mode;
	char *base_path, *location;
	char *data; /* what is on disk for certain */
	size_t size;
	struct change *changes;
	size_t n_changes;
	struct names live, disk; /* of a directory */
};

/* Not yet on disk.  FROM (dir, name) or TO may be absent: create has only TO, unlink only FROM. */
struct name_change {
	struct node *from_dir, *to_dir, *node;
	char *from, *to;
};

static struct {
	uint64_t random;
	struct node *root;
	struct idmap *by_ino;
	struct name_change *pending;
	size_t n_pending;
	uint64_t records, syncs, lost_writes, torn_writes, kept_writes, lost_names, kept_names;
} cut;

/* ------------------------------------------------------------------ small things */

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("cut: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

/* splitmix64 */
static uint64_t random_next(void)
{
	uint64_t z = cut.random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static bool chance(unsigned percent)
{
	return random_next() % 100 < percent;
}

static char *join(const char *dir, const char *name)
{
	char *p = NULL;
	if (asprintf(&p, "%s/%s", dir, name) < 0)
		abort();
	return p;
}

static struct entry *names_get(struct names *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (strcmp(d->v[i].name, name) == 0)
			return &d->v[i];
	d->v = xrealloc(d->v, (d->n + 1) * sizeof(*d->v));
	d->v[d->n] = (struct entry){ .name = xstrdup(name) };
	return &d->v[d->n++];
}

static struct node *node_new(bool is_dir, unsigned mode)
{
	struct node *n = xcalloc(1, sizeof(*n));
	n->is_dir = is_dir;
	n->mode = mode;
	return n;
}

/* ------------------------------------------------------------------ BASE */

static void load_dir(struct node *dir, struct idmap *linked)
{
	DIR *d = opendir(dir->base_path);
	if (!d)
		fail("%s: %s", dir->base_path, strerror(errno));
	for (struct dirent *e; (e = readdir(d));) {
		struct stat st;
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
			continue; /* sockets do not outlive their process */
		struct node *n = S_ISREG(st.st_mode) ? idmap_get(linked, st.st_ino) : NULL;
		if (!n) {
			n = node_new(S_ISDIR(st.st_mode), st.st_mode & 07777);
			n->base_path = join(dir->base_path, e->d_name);
			n->size = (size_t)st.st_size;
		}
		if (st.st_nlink > 1 && !n->is_dir)
			idmap_put(linked, st.st_ino, n);
		names_get(&dir->live, e->d_name)->node = n;
		names_get(&dir->disk, e->d_name)->node = n;
		if (n->is_dir)
			load_dir(n, linked);
	}
	closedir(d);
}

static void content_load(struct node *n)
{
	if (n->changed)
		return;
	n->changed = true;
	if (!n->base_path || !n->size)
		return;
	int fd = open(n->base_path, O_RDONLY | O_CLOEXEC);
	n->data = xmalloc(n->size);
	if (fd < 0 || read(fd, n->data, n->size) != (ssize_t)n->size)
		fail("%s: cannot be read", n->base_path);
	close(fd);
}

static void content_resize(struct node *n, size_t size)
{
	n->data = xrealloc(n->data, size ? size : 1);
	if (size > n->size)
		memset(n->data + n->size, 0, size - n->size);
	n->size = size;
}

static void content_write(struct node *n, uint64_t at, const char *p, size_t len)
{
	if (at + len > n->size)
		content_resize(n, at + len);
	memcpy(n->data + at, p, len);
}

/* ------------------------------------------------------------------ the live names */

/* The directory that holds the last part of PATH, which goes to *RET_NAME; NULL if there is none.
 */
static struct node *find_parent(const char *path, char **ret_name)
{
	_cleanup_(freep) char *copy = xstrdup(path);
	struct node *dir = cut.root;
	char *save = NULL, *part = strtok_r(copy, "/", &save);
	for (char *next; part && (next = strtok_r(NULL, "/", &save)); part = next) {
		dir = names_get(&dir->live, part)->node;
		if (!dir || !dir->is_dir)
			return NULL;
	}
	*ret_name = part ? xstrdup(part) : NULL;
	return dir;
}

static struct node *find(const char *path)
{
	_cleanup_(freep) char *name = NULL;
	struct node *dir = find_parent(path, &name);
	return dir && name ? names_get(&dir->live, name)->node : dir;
}

static void name_change_add(const char *from, const char *to, struct node *node)
{
	cut.pending = xrealloc(cut.pending, (cut.n_pending + 1) * sizeof(*cut.pending));
	struct name_change *r = &cut.pending[cut.n_pending++];
	*r = (struct name_change){ .node = node };
	if (from)
		r->from_dir = find_parent(from, &r->from);
	if (to)
		r->to_dir = find_parent(to, &r->to);
	if ((from && !r->from) || (to && !r->to))
		fail("no directory for %s%s%s", from ? from : "", from && to ? " -> " : "",
		     to ? to : "");
	if (from && !r->node)
		r->node = names_get(&r->from_dir->live, r->from)->node;
	if (from)
		names_get(&r->from_dir->live, r->from)->node = NULL;
	if (to)
		names_get(&r->to_dir->live, r->to)->node = r->node;
}

static void name_reaches_disk(struct name_change *r)
{
	if (r->from)
		names_get(&r->from_dir->disk, r->from)->node = NULL;
	if (r->to)
		names_get(&r->to_dir->disk, r->to)->node = r->node;
}

/* ------------------------------------------------------------------ replay */

static struct node *by_ino(const struct journal_record *r)
{
	struct node *n = idmap_get(cut.by_ino, r->ino);
	if (!n)
		fail("record %" PRIu64 " is about an inode that nobody opened", cut.records);
	return n;
}

static void change_apply(struct node *n, const struct change *c)
{
	content_load(n);
	if (c->r.op == JOURNAL_WRITE)
		content_write(n, c->r.at, c->data, c->r.data_n);
	else if (c->r.op == JOURNAL_TRUNCATE || c->r.at > n->size)
		content_resize(n, c->r.at);
}

static void replay_sync(struct node *n)
{
	for (size_t i = 0; i < n->n_changes; i++)
		change_apply(n, &n->changes[i]);
	free(n->changes);
	n->changes = NULL;
	n->n_changes = 0;
	cut.syncs++;
}

static void replay_sync_dir(const struct node *dir)
{
	size_t left = 0;
	for (size_t i = 0; i < cut.n_pending; i++) {
		struct name_change *r = &cut.pending[i];
		if ((r->to_dir ? r->to_dir : r->from_dir) == dir) {
			cut.kept_names++;
			name_reaches_disk(r);
			free(r->from);
			free(r->to);
		} else {
			cut.pending[left++] = *r;
		}
	}
	cut.n_pending = left;
	cut.syncs++;
}

static void replay_new(const struct journal_record *r, const char *path)
{
	struct node *n = node_new(r->op == JOURNAL_MKDIR, r->mode);
	n->changed = true;
	if (!n->is_dir)
		idmap_put(cut.by_ino, r->ino, n);
	if (r->op != JOURNAL_TMPFILE)
		name_change_add(NULL, path, n);
}

static void replay_change(const struct journal_record *r, const char *data)
{
	struct node *n = by_ino(r);
	if ((n->n_changes & (n->n_changes - 1)) == 0)
		n->changes = xrealloc(n->changes,
				      MAX(n->n_changes * 2, (size_t)8) * sizeof(*n->changes));
	n->changes[n->n_changes++] = (struct change){ *r, data };
}

static void replay_one(const struct journal_record *r, const char *path, const char *other,
		       const char *data)
{
	struct node *n;
	switch (r->op) {
	case JOURNAL_CREATE:
	case JOURNAL_TMPFILE:
	case JOURNAL_MKDIR:
		replay_new(r, path);
		break;
	case JOURNAL_OPEN:
		n = find(path);
		if (!n)
			fail("%s was opened, but nothing made it", path);
		idmap_put(cut.by_ino, r->ino, n);
		break;
	case JOURNAL_WRITE:
	case JOURNAL_TRUNCATE:
	case JOURNAL_EXTEND:
		replay_change(r, data);
		break;
	case JOURNAL_SYNC:
		replay_sync(by_ino(r));
		break;
	case JOURNAL_SYNC_DIR:
		n = find(path);
		if (n)
			replay_sync_dir(n);
		break;
	case JOURNAL_RENAME:
		name_change_add(path, other, NULL);
		break;
	case JOURNAL_LINK:
		name_change_add(NULL, other, by_ino(r));
		break;
	case JOURNAL_UNLINK:
		name_change_add(path, NULL, NULL);
		break;
	default:
		fail("record %" PRIu64 ": unknown operation %u", cut.records, r->op);
	}
}

static void replay(const char *p, size_t left)
{
	while (left >= sizeof(struct journal_record)) {
		struct journal_record r; /* a copy: those in the file are not aligned */
		memcpy(&r, p, sizeof(r));
		size_t all = sizeof(r) + (size_t)r.path_n + r.other_n + r.data_n;
		if (r.magic != JOURNAL_MAGIC)
			fail("the journal is damaged after %" PRIu64 " records", cut.records);
		if (all > left)
			break; /* cut short by the kill */
		_cleanup_(freep) char *path = strndup(p + sizeof(r), r.path_n);
		_cleanup_(freep) char *other = strndup(p + sizeof(r) + r.path_n, r.other_n);
		cut.records++;
		replay_one(&r, path, other, p + all - r.data_n);
		p += all;
		left -= all;
	}
}

/* ------------------------------------------------------------------ the power fails */

enum fate { LOSE_ALL, KEEP_ALL, LOSE_WRITES, LOSE_SECTORS, LOSE_TAIL, FATES };

static void tear(struct node *n, const struct change *c)
{
	size_t kept = 0, parts = 0;
	content_load(n);
	for (size_t i = 0, len; i < c->r.data_n; i += len) {
		uint64_t at = c->r.at + i;
		len = MIN((size_t)(SECTOR - at % SECTOR), (size_t)c->r.data_n - i);
		parts++;
		if (chance(50)) {
			content_write(n, at, c->data + i, len);
			kept++;
		}
	}
	if (kept == 0)
		cut.lost_writes++;
	else if (kept == parts)
		cut.kept_writes++;
	else
		cut.torn_writes++;
}

static void fail_file(struct node *n, enum fate fate)
{
	size_t tail = n->n_changes ? random_next() % (n->n_changes + 1) : 0;
	unsigned percent = (unsigned)(random_next() % 101);
	for (size_t i = 0; i < n->n_changes; i++) {
		const struct change *c = &n->changes[i];
		if (fate == LOSE_SECTORS && c->r.op == JOURNAL_WRITE) {
			tear(n, c);
		} else if (fate == LOSE_ALL || (fate == LOSE_TAIL && i >= tail) ||
			   (fate >= LOSE_WRITES && fate != LOSE_TAIL && !chance(percent))) {
			cut.lost_writes++;
		} else {
			change_apply(n, c);
			cut.kept_writes++;
		}
	}
}

static bool uncertain(struct node *dir, const char *name)
{
	return name && names_get(&dir->disk, name)->uncertain;
}

/* Once a change of an entry is lost, what happened to that entry afterwards is lost too. */
static void fail_names(enum fate fate)
{
	size_t tail = random_next() % (cut.n_pending + 1);
	for (size_t i = 0; i < cut.n_pending; i++) {
		struct name_change *r = &cut.pending[i];
		bool lost = uncertain(r->from_dir, r->from) || uncertain(r->to_dir, r->to) ||
			    fate == LOSE_ALL || (fate == LOSE_TAIL && i >= tail) ||
			    (fate != KEEP_ALL && fate != LOSE_TAIL && chance(50));
		if (!lost) {
			name_reaches_disk(r);
			cut.kept_names++;
			continue;
		}
		if (r->from)
			names_get(&r->from_dir->disk, r->from)->uncertain = true;
		if (r->to)
			names_get(&r->to_dir->disk, r->to)->uncertain = true;
		cut.lost_names++;
	}
}

/* ------------------------------------------------------------------ OUT */

static void place_file(struct node *n, const char *path, enum fate all)
{
	const char *from = n->placed ? n->location : n->base_path;
	if (!n->placed)
		fail_file(n, all == FATES ? random_next() % FATES : all);
	if (n->placed || !n->changed) {
		if (link(from, path) != 0)
			fail("%s: %s", path, strerror(errno));
	} else {
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, n->mode);
		for (size_t at = 0; fd >= 0 && at < n->size;) {
			ssize_t w = write(fd, n->data + at, n->size - at);
			if (w < 0)
				fail("%s: %s", path, strerror(errno));
			at += (size_t)w;
		}
		if (fd < 0 || fchmod(fd, n->mode) != 0)
			fail("%s: %s", path, strerror(errno));
		close(fd);
	}
	if (!n->placed)
		n->location = xstrdup(path);
	n->placed = true;
}

static void place_dir(struct node *dir, const char *path, enum fate all)
{
	if (mkdir(path, 0700) != 0)
		fail("%s: %s", path, strerror(errno));
	for (size_t i = 0; i < dir->disk.n; i++) {
		struct entry *e = &dir->disk.v[i];
		_cleanup_(freep) char *to = join(path, e->name);
		if (e->node && e->node->is_dir)
			place_dir(e->node, to, all);
		else if (e->node)
			place_file(e->node, to, all);
	}
	if (chmod(path, dir->mode) != 0)
		fail("%s: %s", path, strerror(errno));
}

static void replay_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		fail("%s: %s", path, strerror(errno));
	if (st.st_size == 0)
		return;
	/* Stays mapped: changes that were not synced point into it. */
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		fail("%s: %s", path, strerror(errno));
	close(fd);
	replay(p, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
	struct stat st;
	if (argc != 5)
		fail("usage: cut JOURNAL BASE OUT SEED");
	if (stat(argv[2], &st) != 0 || !S_ISDIR(st.st_mode))
		fail("%s is no directory", argv[2]);
	cut.random = strtoull(argv[4], NULL, 10);
	cut.by_ino = idmap_new();
	cut.root = node_new(true, st.st_mode & 07777);
	cut.root->base_path = xstrdup(argv[2]);
	_cleanup_(idmap_freep) struct idmap *linked = idmap_new();
	load_dir(cut.root, linked);
	replay_file(argv[1]);
	/* One cut in three is the plainest disaster: a disk that kept nothing it was not told to.
	 */
	enum fate all = chance(33) ? LOSE_ALL : FATES;
	fail_names(all == FATES ? random_next() % FATES : all);
	place_dir(cut.root, argv[3], all);
	printf("{\"records\":%" PRIu64 ",\"syncs\":%" PRIu64 ",\"lost_writes\":%" PRIu64
	       ",\"torn_writes\":%" PRIu64 ",\"kept_writes\":%" PRIu64 ",\"lost_names\":%" PRIu64
	       ",\"kept_names\":%" PRIu64 "}\n",
	       cut.records, cut.syncs, cut.lost_writes, cut.torn_writes, cut.kept_writes,
	       cut.lost_names, cut.kept_names);
	return 0;
}
