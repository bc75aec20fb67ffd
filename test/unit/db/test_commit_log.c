/* The commit log: what a crash leaves is put back, in order, and what is void stays void. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "db/db.h"

#define ROWS 40

static char dir[64];
static const struct db_migration steps[] = { { 1, 1,
					       "CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)" } };
static const struct db_schema schema = { "test", steps, 1 };

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/test_commit_log.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) == 0 ? 0 : -1;
}

static const char *file(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *p = paths[next++ % 4];
	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

static void open_log(void)
{
	struct err_info info = { 0 };
	if (db_log_open(dir, DB_LOG_MIN, &info))
		fail_msg("db_log_open: %s", info.text);
}

static struct db *open_db(const char *name)
{
	struct db *d = NULL;
	struct err_info info = { 0 };
	if (db_open(file(name), &schema, DB_CREATE, &d, &info))
		fail_msg("db_open: %s", info.text);
	return d;
}

static int insert(struct db_tx *tx, void *arg)
{
	return db_run(tx, "INSERT INTO t(v) VALUES(zeroblob(?))", "i", *(int64_t *)arg);
}

static int put(struct db *d, int64_t size)
{
	return db_write(d, insert, &size);
}

static int64_t count(struct db *d)
{
	struct db_tx *tx;
	int64_t n = -1, bad = 0;
	assert_int_equal(db_read_begin(d, &tx), 0);
	assert_int_equal(db_get_i64(tx, &n, "SELECT count(*) FROM t", ""), 1);
	assert_int_equal(db_get_i64(tx, &bad,
				    "SELECT count(*) FROM pragma_quick_check"
				    " WHERE quick_check <> 'ok'",
				    ""),
			 1);
	db_read_end(tx);
	assert_int_equal(bad, 0);
	return n;
}

/* Runs LIFE in a process that is then killed. */
static void crash_after(void (*life)(void))
{
	pid_t pid = fork();
	int status;
	assert_true(pid >= 0);
	if (pid == 0) {
		open_log();
		life();
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Nothing of it had reached the disk. */
static void lose(const char *name)
{
	assert_int_equal(truncate(file(name), 0), 0);
}

static void check(const char *name, int64_t rows)
{
	open_log();
	struct db *d = open_db(name);
	assert_int_equal(count(d), rows);
	assert_int_equal(put(d, 10), 0);
	assert_int_equal(count(d), rows + 1);
	db_close(d);
	db_log_close();
}

static void two_databases(void)
{
	struct db *a = open_db("a.db"), *b = open_db("b.db");
	for (int i = 0; i < ROWS; i++)
		if (put(a, 4000) || put(b, 100))
			abort();
}

static void test_replay(void **state)
{
	crash_after(two_databases);
	lose("a.db-wal");
	lose("b.db-wal");
	check("a.db", ROWS);
	check("b.db", ROWS);
}

/* Who died while it replayed finds the same log again. */
static void test_replay_again(void **state)
{
	char cmd[300];
	crash_after(two_databases);
	snprintf(cmd, sizeof(cmd), "cp %s %s", file("commit.log"), file("saved"));
	assert_int_equal(system(cmd), 0);
	lose("a.db-wal");
	struct err_info info = { 0 };
	assert_int_equal(db_log_open(dir, 0, &info), 0);
	assert_int_equal(rename(file("saved"), file("commit.log")), 0);
	check("a.db", ROWS);
}

/* The last record was not written to its end: it was never acknowledged. */
static void test_torn(void **state)
{
	struct stat st;
	crash_after(two_databases);
	lose("a.db-wal");
	lose("b.db-wal");
	assert_int_equal(stat(file("commit.log"), &st), 0);
	int fd = open(file("commit.log"), O_WRONLY);
	assert_int_equal(pwrite(fd, "torn", 4, st.st_size - 100), 4);
	close(fd);
	check("a.db", ROWS);
	check("b.db", ROWS - 1);
}

static void many_turns(void)
{
	struct db *d = open_db("a.db");
	for (int i = 0; i < 20 * ROWS; i++)
		if (put(d, 8000))
			abort();
}

static void test_segments_are_used_again(void **state)
{
	struct stat st;
	crash_after(many_turns);
	assert_int_equal(stat(file("commit.log"), &st), 0);
	assert_in_range(st.st_size, DB_LOG_MIN, 2 * DB_LOG_MIN);
	check("a.db", 20 * ROWS);
}

/* What is too long for the log is synced by itself, and older records must not be put over it. */
static void too_long(void)
{
	struct db *d = open_db("a.db");
	for (int i = 0; i < ROWS; i++)
		if (put(d, 4000))
			abort();
	if (db_checkpoint(d) || put(d, 3 << 20))
		abort();
}

static void test_barrier(void **state)
{
	crash_after(too_long);
	check("a.db", ROWS + 1);
}

/* L4: nobody is told that it is safe; each database goes on through its copy. */
static void test_failed_sync(void **state)
{
	open_log();
	struct db *a = open_db("a.db"), *b = open_db("b.db");
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(put(b, 8000), 0);
	struct rlimit old, low;
	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 200000; /* the log is longer, A's files are not */
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &low);
	int r = put(a, 10);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, ERR_SYNC);
	assert_int_equal(db_poisoned(a), ERR_SYNC);
	assert_int_equal(put(a, 10), ERR_SYNC);
	assert_int_equal(put(b, 10), 0); /* with a new log */
	assert_int_equal(db_reopen_copy(a), 0);
	assert_int_equal(put(a, 10), 0);
	assert_int_equal(count(b), ROWS + 1);
	db_close(a);
	db_close(b);
	db_log_close();
	check("b.db", ROWS + 1);
}

static void on_durable(int result, void *arg)
{
	*(int *)arg = result;
}

static void test_deferred(void **state)
{
	int result = 1;
	open_log();
	struct db *d = open_db("a.db");
	db_defer_begin();
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(put(d, 100), 0);
	uint64_t ticket = db_defer_end();
	assert_true(ticket != 0);
	db_when_durable(ticket, on_durable, &result);
	assert_int_equal(count(d), ROWS);
	db_log_drain();
	assert_int_equal(result, 0);
	db_close(d);
	db_log_close();
	check("a.db", ROWS);
}

/* Without a log the same files work. */
static void test_without(void **state)
{
	crash_after(two_databases);
	lose("a.db-wal");
	struct err_info info = { 0 };
	assert_int_equal(db_log_open(dir, 0, &info), 0);
	struct db *d = open_db("a.db");
	assert_int_equal(count(d), ROWS);
	assert_int_equal(put(d, 10), 0);
	db_close(d);
	db_log_close();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_replay),	  T(test_replay_again),
		T(test_torn),	  T(test_segments_are_used_again),
		T(test_barrier),  T(test_failed_sync),
		T(test_deferred), T(test_without),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
