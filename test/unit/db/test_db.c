/* db: D1 to D5, in process, with and without a pool of readers. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/db.h"

static const struct db_migration steps_1[] = {
	{ 1, 1, "CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, v TEXT UNIQUE, data BLOB)" },
};
static const struct db_migration steps_2[] = {
	{ 1, 1, "CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, v TEXT UNIQUE, data BLOB)" },
	{ 2, 1, "ALTER TABLE t ADD COLUMN extra INTEGER" },
};
static const struct db_migration steps_3[] = {
	{ 1, 1, "CREATE TABLE t(id INTEGER PRIMARY KEY, who INTEGER, v TEXT UNIQUE, data BLOB)" },
	{ 2, 1, "ALTER TABLE t ADD COLUMN extra INTEGER" },
	{ 3, 3, "CREATE TABLE u(x)" },
};
static const struct db_schema schema_1 = { "test", steps_1, 1 };
static const struct db_schema schema_2 = { "test", steps_2, 2 };
static const struct db_schema schema_3 = { "test", steps_3, 3 };
static const struct db_schema schema_other = { "other", steps_1, 1 };

static unsigned mode; /* DB_SINGLE_CONNECTION or 0 */
static char dir[64], path[96];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/test_db.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/t.db", dir);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) == 0 ? 0 : -1;
}

static struct db *open_db(void)
{
	struct db *d = NULL;
	struct err_info info = { 0 };
	int r = db_open(path, &schema_1, DB_CREATE | mode, &d, &info);
	if (r)
		fail_msg("db_open: %s", info.text);
	return d;
}

static int insert(struct db_tx *tx, void *arg)
{
	return db_run(tx, "INSERT INTO t(who, v) VALUES(1, ?)", "z", (const char *)arg);
}

static int put(struct db *d, const char *v)
{
	return db_write(d, insert, (void *)v);
}

static int64_t count(struct db *d)
{
	struct db_tx *tx = NULL;
	int64_t n = -1;
	assert_int_equal(db_read_begin(d, &tx), 0);
	assert_int_equal(db_get_i64(tx, &n, "SELECT count(*) FROM t", ""), 1);
	db_read_end(tx);
	return n;
}

static void test_create_and_reopen(void **state)
{
	struct db *d = NULL;
	struct err_info info = { 0 };
	assert_int_equal(db_open(path, &schema_1, mode, &d, &info), ERR_NOENT);
	d = open_db();
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(put(d, "one"), 0);
	assert_true(db_memory(d) > 0);
	db_close(d);
	char shm[128];
	snprintf(shm, sizeof(shm), "%s-shm", path);
	assert_int_not_equal(stat(shm, &st), 0);
	assert_int_equal(db_open(path, &schema_1, mode, &d, &info), 0);
	assert_int_equal(count(d), 1);
	assert_int_equal(db_open(path, &schema_1, mode, &(struct db *){ 0 }, &info), ERR_BUSY);
	db_close(d);
	assert_int_equal(db_open(path, &schema_other, mode, &d, &info), ERR_CORRUPT);
}

/* D4: the one that fails leaves no trace, the others stand. */
struct job {
	struct db *d;
	int number, result;
};

static int insert_maybe_fail(struct db_tx *tx, void *arg)
{
	struct job *j = arg;
	char v[32];
	snprintf(v, sizeof(v), "%d", j->number);
	int r = db_run(tx, "INSERT INTO t(who, v) VALUES(?, ?)", "iz", (int64_t)j->number, v);
	if (r < 0)
		return r;
	return j->number % 5 == 0 ? ERR_PERM : 1;
}

static void *run_jobs(void *arg)
{
	struct job *j = arg;
	for (int i = 0; i < 50; i++) {
		struct job one = { .d = j->d, .number = j->number * 1000 + i };
		j->result += db_write(j->d, insert_maybe_fail, &one) ==
			     (one.number % 5 ? 0 : ERR_PERM);
	}
	return NULL;
}

static void test_group_commit(void **state)
{
	struct db *d = open_db();
	pthread_t t[20];
	struct job jobs[20];
	for (int i = 0; i < 20; i++) {
		jobs[i] = (struct job){ .d = d, .number = i + 1 };
		assert_int_equal(pthread_create(&t[i], NULL, run_jobs, &jobs[i]), 0);
	}
	for (int i = 0; i < 20; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(jobs[i].result, 50);
	}
	assert_int_equal(count(d), 20 * 40);
	uint64_t commits, writes;
	db_counts(d, &commits, &writes);
	assert_int_equal(writes, 1000);
	assert_true(commits < writes);
	db_close(d);
}

static void test_errors_of_statements(void **state)
{
	struct db *d = open_db();
	assert_int_equal(put(d, "a"), 0);
	assert_int_equal(put(d, "a"), ERR_EXIST);
	assert_int_equal(put(d, "b"), 0);
	assert_int_equal(count(d), 2);
	assert_int_equal(db_poisoned(d), 0);
	db_close(d);
}

static int insert_all_types(struct db_tx *tx, void *arg)
{
	int64_t *id = arg;
	int r = db_run(tx, "INSERT INTO t(who, v, data) VALUES(?, ?, ?)", "usb", UINT64_MAX,
		       SPAN("s\0t"), SPAN("0123456789"));
	*id = db_last_id(tx);
	assert_int_equal(db_changes(tx), 1);
	if (r < 0)
		return r;
	return db_run(tx, "INSERT INTO t(who, v, data) VALUES(?, ?, ?)", "inn", INT64_C(-5));
}

static void test_statements(void **state)
{
	struct db *d = open_db();
	int64_t id = 0, v;
	assert_int_equal(db_write(d, insert_all_types, &id), 0);
	struct db_tx *tx = NULL;
	assert_int_equal(db_read_begin(d, &tx), 0);
	struct db_stmt *s = db_sql(tx, "SELECT who, v, data FROM t ORDER BY id");
	assert_int_equal(db_step(s), 1);
	assert_true((uint64_t)db_col_i64(s, 0) == UINT64_MAX);
	assert_true(span_eq(db_col_span(s, 1), SPAN("s\0t")));
	assert_int_equal(db_step(s), 1);
	assert_true(db_col_null(s, 1) && db_col_null(s, 2));
	assert_int_equal(db_step(s), 0);
	assert_int_equal(db_get_i64(tx, &v, "SELECT id FROM t WHERE who = ?", "i", INT64_C(77)), 0);
	char part[4];
	assert_int_equal(db_blob_read(tx, "t", "data", id, 3, part, 4), 0);
	assert_memory_equal(part, "3456", 4);
	assert_int_equal(db_blob_read(tx, "t", "data", id, 8, part, 4), ERR_INVAL);
	assert_int_equal(db_blob_read(tx, "t", "data", id + 99, 0, part, 4), ERR_NOENT);
	/* left in the middle of its rows: the end of the transaction ends it */
	s = db_sql(tx, "SELECT id FROM t");
	assert_int_equal(db_step(s), 1);
	db_read_end(tx);
	assert_int_equal(db_checkpoint(d), 0);
	assert_int_equal(db_wal_pages(d), 0);
	db_close(d);
}

/* D1: another process gets a clear refusal at once. */
static void test_other_owner(void **state)
{
	int to_child[2], from_child[2];
	assert_int_equal(pipe(to_child) | pipe(from_child), 0);
	pid_t child = fork();
	if (child == 0) {
		char c;
		struct db *d = open_db();
		_exit(write(from_child[1], "o", 1) == 1 && read(to_child[0], &c, 1) == 1 && d ? 0
											      : 1);
	}
	char c;
	assert_int_equal(read(from_child[0], &c, 1), 1);
	struct db *d = NULL;
	struct err_info info = { 0 };
	assert_int_equal(db_open(path, &schema_1, mode, &d, &info), ERR_BUSY);
	char pid[32];
	snprintf(pid, sizeof(pid), "(pid %ld)", (long)child);
	assert_non_null(strstr(info.text, "in use by another process"));
	assert_non_null(strstr(info.text, pid));
	assert_int_equal(write(to_child[1], "x", 1), 1);
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	for (int i = 0; i < 2; i++) {
		close(to_child[i]);
		close(from_child[i]);
	}
	d = open_db(); /* a dead owner owns nothing */
	db_close(d);
}

/* D5 */
static void test_versions(void **state)
{
	struct db *d = open_db();
	struct err_info info = { 0 };
	assert_int_equal(put(d, "one"), 0);
	db_close(d);
	assert_int_equal(db_open(path, &schema_2, mode, &d, &info), 0); /* forward */
	db_close(d);
	assert_int_equal(db_open(path, &schema_1, mode, &d, &info), 0); /* rollback is allowed */
	assert_int_equal(put(d, "two"), 0);
	db_close(d);
	assert_int_equal(db_open(path, &schema_3, mode, &d, &info), 0);
	assert_int_equal(count(d), 2);
	db_close(d);
	struct stat before, after;
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(db_open(path, &schema_1, mode, &d, &info), ERR_VERSION);
	assert_non_null(strstr(info.text, "version 3"));
	assert_int_equal(stat(path, &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
}

static int limit_pages(struct db_tx *tx, void *arg)
{
	int64_t v;
	int r = db_get_i64(tx, &v, arg, "");
	return MIN(r, 0);
}

static int limit(struct db *d, const char *sql)
{
	return db_write(d, limit_pages, (void *)sql);
}

static int insert_big(struct db_tx *tx, void *arg)
{
	static const char zeros[100000];
	return db_run(tx, "INSERT INTO t(data) VALUES(?)", "b", span_of(zeros, sizeof(zeros)));
}

/* D3: full is undone and heals. */
static void test_full(void **state)
{
	struct db *d = open_db();
	assert_int_equal(limit(d, "PRAGMA max_page_count = 40"), 0);
	int r = 0, n = 0;
	while (n < 100 && (r = db_write(d, insert_big, NULL)) == 0)
		n++;
	assert_int_equal(r, ERR_FULL);
	assert_int_equal(count(d), n);
	assert_int_equal(db_poisoned(d), 0);
	assert_int_equal(put(d, "small still fits"), 0);
	assert_int_equal(limit(d, "PRAGMA max_page_count = 100000"), 0);
	assert_int_equal(db_write(d, insert_big, NULL), 0);
	assert_int_equal(count(d), n + 2);
	db_close(d);
}

/* More than the cache holds, so that pages go to the WAL and come back before the commit. */
static int insert_much(struct db_tx *tx, void *arg)
{
	int64_t right = 0;
	int r = 0;
	for (int i = 0; i < 40 && !r; i++)
		r = db_run(tx, "INSERT INTO t(who, data) VALUES(7, randomblob(100000))", "");
	for (int round = 0; round < 2 && !r; round++)
		r = db_run(tx, "UPDATE t SET v = id || hex(substr(data, 50000, 8)) WHERE who = 7",
			   "");
	if (!r)
		r = db_get_i64(tx, &right,
			       "SELECT count(*) FROM t WHERE v = id || hex(substr(data, 50000, 8))",
			       "");
	return r < 0 ? r : right % 40 ? ERR_CORRUPT : arg ? ERR_QUOTA : 0;
}

static void test_large_commits(void **state)
{
	struct db *d = open_db();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(db_write(d, insert_much, d /* undo it */), ERR_QUOTA);
		assert_int_equal(put(d, i == 0 ? "a" : i == 1 ? "b" : "c"), 0);
		assert_int_equal(db_write(d, insert_much, NULL), 0);
		assert_int_equal(count(d), (i + 1) * 41);
		assert_int_equal(db_checkpoint(d), 0);
	}
	db_close(d);
	d = open_db();
	assert_int_equal(count(d), 3 * 41);
	int64_t problems = 1;
	struct db_tx *tx = NULL;
	assert_int_equal(db_read_begin(d, &tx), 0);
	assert_int_equal(db_get_i64(tx, &problems,
				    "SELECT count(*) FROM pragma_integrity_check WHERE "
				    "integrity_check <> 'ok'",
				    ""),
			 1);
	assert_int_equal(problems, 0);
	db_read_end(tx);
	db_close(d);
}

static int delete_all(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM t", "");
}

static void test_space_comes_back(void **state)
{
	struct db *d = open_db();
	for (int i = 0; i < 50; i++)
		assert_int_equal(db_write(d, insert_big, NULL), 0);
	assert_int_equal(db_checkpoint(d), 0);
	struct stat before, after;
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(db_write(d, delete_all, NULL), 0);
	assert_int_equal(db_checkpoint(d), 0);
	assert_int_equal(stat(path, &after), 0);
	assert_true(after.st_size < before.st_size / 4);
	assert_int_equal(put(d, "still good"), 0);
	db_close(d);
}

/* D3: a write that fails poisons, everything acknowledged survives, a copy is the way back. */
static void test_poison_and_copy(void **state)
{
	struct db *d = open_db();
	const char *names[] = { "a", "b", "c" };
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(put(d, names[i]), 0);
	struct rlimit old, low;
	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 60000;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &low);
	int r = db_write(d, insert_big, NULL);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, ERR_SYNC);
	assert_int_equal(db_poisoned(d), ERR_SYNC);
	assert_int_equal(put(d, "d"), ERR_SYNC);
	assert_int_equal(db_read_begin(d, &(struct db_tx *){ 0 }), ERR_SYNC);
	assert_int_equal(db_checkpoint(d), ERR_SYNC);
	assert_int_equal(db_reopen_copy(d), 0);
	assert_int_equal(db_poisoned(d), 0);
	assert_int_equal(count(d), 3);
	assert_int_equal(put(d, "d"), 0);
	db_close(d);
	d = open_db();
	assert_int_equal(count(d), 4);
	db_close(d);
}

/* The second half of a copy's swap is done at the next open; the old WAL must not be read. */
static void test_swap_after_crash(void **state)
{
	struct db *d = open_db();
	assert_int_equal(put(d, "a"), 0);
	char copy[128], wal[128];
	snprintf(copy, sizeof(copy), "%s-copy", path);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	assert_int_equal(db_backup(d, copy), 0);
	assert_int_equal(put(d, "only in the old WAL"), 0);
	db_close(d);
	FILE *f = fopen(wal, "w");
	fputs("garbage of the old database", f);
	fclose(f);
	d = open_db();
	assert_int_equal(count(d), 1);
	assert_int_not_equal(access(copy, F_OK), 0);
	db_close(d);
}

static int wait_in_write(struct db_tx *tx, void *arg)
{
	sem_t *s = arg;
	sem_post(&s[0]);
	sem_wait(&s[1]);
	return insert(tx, (void *)"slow");
}

struct slow {
	struct db *d;
	sem_t s[2];
};

static void *slow_writer(void *arg)
{
	struct slow *w = arg;
	assert_int_equal(db_write(w->d, wait_in_write, w->s), 0);
	return NULL;
}

/* A read and a backup proceed while a write is under way, and see what was committed. */
static void test_read_beside_write(void **state)
{
	struct slow w = { .d = open_db() };
	sem_init(&w.s[0], 0, 0);
	sem_init(&w.s[1], 0, 0);
	pthread_t t;
	assert_int_equal(put(w.d, "first"), 0);
	pthread_create(&t, NULL, slow_writer, &w);
	sem_wait(&w.s[0]);
	char backup[128];
	snprintf(backup, sizeof(backup), "%s/backup.db", dir);
	if (!mode) {
		assert_int_equal(count(w.d), 1);
		assert_int_equal(db_backup(w.d, backup), 0);
	}
	sem_post(&w.s[1]);
	pthread_join(t, NULL);
	assert_int_equal(count(w.d), 2);
	if (mode)
		assert_int_equal(db_backup(w.d, backup), 0);
	db_close(w.d);
	struct db *b = NULL;
	assert_int_equal(db_open(backup, &schema_1, mode, &b, NULL), 0);
	assert_int_equal(count(b), mode ? 2 : 1);
	db_close(b);
	sem_destroy(&w.s[0]);
	sem_destroy(&w.s[1]);
}

static void *reader(void *arg)
{
	for (int i = 0; i < 100; i++)
		assert_true(count(arg) >= 0);
	return NULL;
}

static void test_many_readers(void **state)
{
	struct db *d = open_db();
	pthread_t t[8];
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, reader, d);
	char v[16];
	for (int i = 0; i < 50; i++) {
		snprintf(v, sizeof(v), "%d", i);
		assert_int_equal(put(d, v), 0);
		if (i % 10 == 0)
			assert_int_equal(db_checkpoint(d), 0);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(count(d), 50);
	db_close(d);
}

static atomic_int told;
static void async_done(int result, void *arg)
{
	if (result == 0)
		atomic_fetch_add(&told, 1);
	free(arg);
}

static int insert_async(struct db_tx *tx, void *arg)
{
	return insert(tx, arg);
}

static void test_async(void **state)
{
	struct db *d = open_db();
	atomic_store(&told, 0);
	for (int i = 0; i < 100; i++) {
		char *v = NULL;
		assert_true(asprintf(&v, "async %d", i) > 0);
		db_write_async(d, insert_async, async_done, v);
		if (i % 10 == 0) {
			char s[32];
			snprintf(s, sizeof(s), "sync %d", i);
			assert_int_equal(put(d, s), 0);
		}
	}
	db_close(d); /* what is queued is written before */
	assert_int_equal(atomic_load(&told), 100);
	d = open_db();
	assert_int_equal(count(d), 110);
	db_close(d);
}

static int opened, closed;
static void *on_open(struct db *d, const char *p, void *arg)
{
	opened++;
	return d;
}
static void on_close(struct db *d, void *state, void *arg)
{
	assert_ptr_equal(d, state);
	closed++;
}

static void *use_many(void *arg)
{
	struct db_cache *c = arg;
	char p[128], v[32];
	for (int i = 0; i < 60; i++) {
		struct db *d;
		snprintf(p, sizeof(p), "%s/%d.db", dir, (int)random_below(12));
		snprintf(v, sizeof(v), "%llx", (unsigned long long)random_u64());
		if (db_cache_get(c, p, &schema_1, DB_CREATE | mode, &d, NULL, NULL) || put(d, v))
			abort();
		db_cache_put(c, d);
	}
	return NULL;
}

/* A handle may come to lie where one was that is just being closed. */
static void test_cache_churn(void **state)
{
	struct db_cache *c = db_cache_new(1);
	pthread_t t[4];
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, use_many, c), 0);
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		pthread_join(t[i], NULL);
	db_cache_free(c);
}

static void test_cache(void **state)
{
	struct db_cache *c = db_cache_new(2);
	db_cache_set_hooks(c, &(struct db_cache_hooks){ on_open, on_close, NULL });
	opened = closed = 0;
	struct db *d[4];
	void *st;
	char p[4][128];
	for (int i = 0; i < 4; i++) {
		snprintf(p[i], sizeof(p[i]), "%s/%d.db", dir, i);
		assert_int_equal(
			db_cache_get(c, p[i], &schema_1, DB_CREATE | mode, &d[i], &st, NULL), 0);
		assert_ptr_equal(st, d[i]);
	}
	struct db *again = NULL;
	assert_int_equal(db_cache_get(c, p[0], &schema_1, mode, &again, NULL, NULL), 0);
	assert_ptr_equal(again, d[0]);
	db_cache_put(c, again);
	assert_int_equal(opened, 4);
	db_cache_trim(c); /* all in use */
	assert_int_equal(db_cache_open(c), 4);
	db_cache_put(c, d[2]);
	db_cache_put(c, d[1]);
	db_cache_put(c, d[0]);
	db_cache_trim(c);
	assert_int_equal(db_cache_open(c), 2);
	assert_int_equal(db_cache_get(c, p[0], &schema_1, mode, &again, NULL, NULL), 0);
	assert_ptr_equal(again, d[0]); /* the most recently used idle one stayed */
	db_cache_drop(c, p[0]);
	assert_int_equal(db_cache_get(c, p[0], &schema_1, mode, &(struct db *){ 0 }, NULL, NULL),
			 ERR_AGAIN);
	assert_int_equal(put(again, "x"), 0);
	db_cache_put(c, again);
	assert_int_equal(db_cache_get(c, p[0], &schema_1, mode, &again, NULL, NULL), 0);
	assert_int_equal(count(again), 1);
	db_cache_put(c, again);
	db_cache_put(c, d[3]);
	assert_int_equal(db_cache_get(c, "/nonexistent/x.db", &schema_1, mode, &again, NULL, NULL),
			 ERR_NOENT);
	db_cache_free(c);
	assert_int_equal(opened, closed);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_create_and_reopen),
		T(test_group_commit),
		T(test_errors_of_statements),
		T(test_statements),
		T(test_versions),
		T(test_full),
		T(test_large_commits),
		T(test_space_comes_back),
		T(test_poison_and_copy),
		T(test_swap_after_crash),
		T(test_read_beside_write),
		T(test_many_readers),
		T(test_async),
		T(test_cache),
		T(test_cache_churn),
		T(test_other_owner),
	};
	int r = cmocka_run_group_tests_name("db", tests, NULL, NULL);
	mode = DB_SINGLE_CONNECTION;
	return r + cmocka_run_group_tests_name("db, single connection", tests, NULL, NULL);
}
