/* The store: accounts as folders, handles in a cache, maintenance. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/store_int.h"
#include "sys/file.h"

#define REPAIR_PAUSE (60 * USEC_SEC)
#define SWEEP_PAUSE  (24 * 3600 * USEC_SEC)

/* --- paths --- */

static bool id_ok(span id)
{
	if (id.n != ACCOUNT_ID_LEN)
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (!((id.p[i] >= '0' && id.p[i] <= '9') || (id.p[i] >= 'a' && id.p[i] <= 'f')))
			return false;
	return true;
}

/* DIR/xx/ID and SUFFIX; the caller frees. */
static char *account_path(const struct store *s, span id, const char *suffix)
{
	char *p = NULL;
	if (asprintf(&p, "%s/%.2s/%.*s%s", s->dir, id.p, SPAN_FMT(id), suffix) < 0)
		abort();
	return p;
}

/* --- the state of an open handle --- */

static int load_last_body_tx(struct db_tx *tx, void *arg)
{
	struct account *a = arg;
	int64_t last = 0;
	int r = db_get_i64(tx, &last, "SELECT ifnull(max(id), 0) FROM body", "");
	atomic_store(&a->last_body, last);
	return r;
}

static void *on_open(struct db *d, const char *path, void *arg)
{
	struct account *a = xcalloc(1, sizeof(*a));
	a->s = arg;
	a->db = d;
	a->dir = span_dup(span_sub(span_str(path), 0, strlen(path) - strlen("/mail.db")));
	memcpy(a->id, a->dir + strlen(a->dir) - ACCOUNT_ID_LEN, ACCOUNT_ID_LEN);
	a->views = idmap_new();
	pthread_mutex_init(&a->mu, NULL);
	/* On the writer: a delivery alone needs no reader. */
	if (db_write(d, load_last_body_tx, a) != 0)
		atomic_store(&a->last_body, 0); /* what is wrong shows in the next call */
	return a;
}

static void on_close(struct db *d, void *state, void *arg)
{
	struct account *a = state;
	views_free(a);
	pthread_mutex_destroy(&a->mu);
	free(a->dir);
	free(a);
}

/* --- store --- */

int store_open(const struct store_conf *conf, struct store **ret, struct err_info *info)
{
	int r = file_mkdirs(conf->dir);
	if (r)
		return err_set(info, r, "%s: cannot be made: %s", conf->dir, err_text(r));
	struct store *s = xcalloc(1, sizeof(*s));
	s->dir = xstrdup(conf->dir);
	s->inline_max = conf->inline_max;
	s->db_flags = DB_SMALL | (conf->single_connection ? DB_SINGLE_CONNECTION : 0);
	s->cache = db_cache_new(conf->max_open);
	db_cache_set_hooks(s->cache, &(struct db_cache_hooks){ on_open, on_close, s });
	s->watches = watch_table_new();
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	db_cache_free(s->cache);
	watch_table_free(s->watches);
	free(s->dir);
	free(s);
}

static void maintain_one(struct db *d, void *state, void *arg)
{
	struct account *a = state;
	usec now = clock_mono();
	if (db_wal_pages(d) > WAL_CHECKPOINT_PAGES)
		db_checkpoint(d); /* an error shows in the next commit */
	if (now >= atomic_load(&a->next_sweep) && body_sweep(a) == 0)
		atomic_store(&a->next_sweep, now + SWEEP_PAUSE);
}

void store_maintain(struct store *s)
{
	db_cache_each(s->cache, maintain_one, NULL);
	db_cache_trim(s->cache);
}

/* --- accounts --- */

static int create_tx(struct db_tx *tx, void *arg)
{
	static const struct {
		const char *name;
		int special;
	} boxes[] = {
		{ "INBOX", SPECIAL_NONE },  { "Drafts", SPECIAL_DRAFTS },
		{ "Sent", SPECIAL_SENT },   { "Junk", SPECIAL_JUNK },
		{ "Trash", SPECIAL_TRASH }, { "Archive", SPECIAL_ARCHIVE },
	};
	for (size_t i = 0; i < ARRAY_LEN(boxes); i++) {
		int64_t id;
		int r = mbox_make(tx, span_str(boxes[i].name), boxes[i].special, &id);
		if (!r)
			r = db_run(tx, "INSERT OR IGNORE INTO subscription(name) VALUES(?)", "z",
				   boxes[i].name);
		if (r)
			return r;
	}
	return 0;
}

int account_create(struct store *s, span account_id, struct err_info *info)
{
	if (!id_ok(account_id))
		return err_set(info, ERR_INVAL, "not an account id");
	_cleanup_(freep) char *blobs = account_path(s, account_id, "/blobs");
	_cleanup_(freep) char *path = account_path(s, account_id, "/mail.db");
	struct db *d = NULL;
	int r = file_mkdirs(blobs);
	if (r)
		return err_set(info, r, "%s: cannot be made: %s", blobs, err_text(r));
	r = db_cache_get(s->cache, path, &store_schema, DB_CREATE | s->db_flags, &d, NULL, info);
	if (r)
		return r;
	/* The mailboxes come in one commit: after a crash before it, the account can be created
	 * again. */
	r = db_write(d, create_tx, NULL);
	db_cache_put(s->cache, d);
	return r ? err_set(info, r, "%s: %s", path, err_text(r)) : 0;
}

static int remove_files(const char *dir)
{
	DIR *d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : err_from_errno(errno);
	struct dirent *e;
	int r = 0;
	while (!r && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) != 0 && errno != EISDIR && errno != ENOENT)
			r = err_from_errno(errno);
	}
	closedir(d);
	return r;
}

static int remove_dir(const char *dir)
{
	int r = remove_files(dir);
	if (!r && rmdir(dir) != 0 && errno != ENOENT)
		r = err_from_errno(errno);
	return r;
}

int account_remove(struct store *s, span account_id)
{
	if (!id_ok(account_id))
		return ERR_INVAL;
	_cleanup_(freep) char *dir = account_path(s, account_id, "");
	_cleanup_(freep) char *blobs = account_path(s, account_id, "/blobs");
	_cleanup_(freep) char *path = account_path(s, account_id, "/mail.db");
	_cleanup_(freep) char *above = span_dup(
		span_sub(span_str(dir), 0, strlen(dir) - ACCOUNT_ID_LEN - 1));
	if (access(dir, F_OK) != 0)
		return ERR_NOENT;
	db_cache_drop(s->cache, path);
	int r = file_remove(path); /* first: what remains after a crash is no account */
	if (!r)
		r = file_sync_dir(dir);
	if (!r)
		r = remove_dir(blobs);
	if (!r)
		r = remove_dir(dir);
	return r ? r : file_sync_dir(above);
}

/* D3: one attempt, then a pause, so that a broken disk is not read again and again. */
static int repair(struct account *a, struct err_info *info)
{
	usec now = clock_mono(), next = atomic_load(&a->next_repair);
	int r = ERR_SYNC;
	if (now >= next &&
	    atomic_compare_exchange_strong(&a->next_repair, &next, now + REPAIR_PAUSE))
		r = db_reopen_copy(a->db);
	return r ? err_set(info, ERR_SYNC,
			   "%s: a sync failed; the account is shut until it was copied", a->dir)
		 : 0;
}

int account_get(struct store *s, span account_id, struct account **ret, struct err_info *info)
{
	if (!id_ok(account_id))
		return err_set(info, ERR_INVAL, "not an account id");
	_cleanup_(freep) char *path = account_path(s, account_id, "/mail.db");
	struct db *d = NULL;
	void *state = NULL;
	if (access(path, F_OK) != 0) {
		/* An open handle would go on to write a file that nobody finds again.  (A copy that
		 * was not put into place yet counts as there: db_open does it.) */
		_cleanup_(freep) char *copy = account_path(s, account_id, "/mail.db-copy");
		if (access(copy, F_OK) != 0) {
			db_cache_drop(s->cache, path);
			return err_set(info, ERR_NOENT, "%s: does not exist", path);
		}
	}
	int r = db_cache_get(s->cache, path, &store_schema, s->db_flags, &d, &state, info);
	if (r)
		return r;
	struct account *a = state;
	if (db_poisoned(d) && (r = repair(a, info)) != 0) {
		db_cache_put(s->cache, d);
		return r;
	}
	*ret = a;
	return 0;
}

void account_put(struct account *a)
{
	if (a)
		db_cache_put(a->s->cache, a->db);
}

int account_usage(struct account *a, uint64_t *ret_bytes, uint64_t *ret_messages)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r)
		return r;
	struct db_stmt *q = db_sql(tx, "SELECT total(bytes), total(messages) FROM mailbox");
	r = db_step(q);
	if (r <= 0)
		return r ? r : ERR_CORRUPT;
	*ret_bytes = (uint64_t)db_col_i64(q, 0);
	*ret_messages = (uint64_t)db_col_i64(q, 1);
	db_reset(q);
	return 0;
}
