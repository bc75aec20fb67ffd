/* events: records survive restarts and torn tails, are found by id and key across segments, and go
 * when old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "events/events.h"

#define HOUR (3600 * USEC_SEC)

struct fixture {
	char base[64], dir[96];
	struct events_conf conf;
	struct events *e;
	struct arena mem;
};

static void reopen(struct fixture *f)
{
	struct err_info info = { 0 };
	events_close(f->e);
	f->e = NULL;
	if (events_open(&f->conf, &f->e, &info) < 0)
		fail_msg("events_open: %s", info.text);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	snprintf(f->base, sizeof(f->base), "/tmp/test_events.XXXXXX");
	assert_non_null(mkdtemp(f->base));
	snprintf(f->dir, sizeof(f->dir), "%s/events", f->base);
	f->conf = (struct events_conf){ .dir = f->dir,
					.segment_bytes = 1 << 20,
					.retention = 24 * HOUR };
	reopen(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];
	events_close(f->e);
	arena_done(&f->mem);
	clock_set_offset(0);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->base);
	int r = system(cmd);
	free(f);
	return r;
}

static struct id append_as(struct fixture *f, struct id id, const char *step, const char *value,
			   const char *key)
{
	struct arena mem = { 0 };
	struct event_list l;
	span keys[2] = { span_str(key), SPAN("<Shared@Example.ORG>") };
	event_list_init(&l, &mem);
	struct event *e = event_note(&l, step);
	event_str(e, "value", value, &mem);
	event_u64(e, "number", 7, &mem);
	event_note(&l, "end");
	events_append(f->e, &id, &l, keys, key ? 2 : 0);
	arena_done(&mem);
	return id;
}

static struct id append(struct fixture *f, const char *step, const char *value, const char *key)
{
	return append_as(f, id_new(), step, value, key);
}

static size_t trace(struct fixture *f, struct id id, struct event_list *l)
{
	assert_int_equal(events_trace(f->e, &id, &f->mem, l), 0);
	return l->count;
}

static size_t find(struct fixture *f, const char *key, struct id *ids, size_t max)
{
	size_t n;
	assert_int_equal(events_find(f->e, span_str(key), &f->mem, ids, max, &n), 0);
	return n;
}

/* Names of the files that end in SUFFIX; the last one in NEWEST. */
static size_t files(struct fixture *f, const char *suffix, char *newest, size_t size)
{
	DIR *d = opendir(f->dir);
	size_t n = 0;
	char last[256] = "";
	for (struct dirent *e; (e = readdir(d));) {
		if (!span_iends(span_str(e->d_name), span_str(suffix)))
			continue;
		n++;
		if (strcmp(e->d_name, last) > 0)
			snprintf(last, sizeof(last), "%s", e->d_name);
	}
	closedir(d);
	if (newest)
		snprintf(newest, size, "%s/%s", f->dir, last);
	return n;
}

static void what_goes_in_comes_out(void **state)
{
	struct fixture *f = *state;
	struct event_list l;
	struct id id = append(f, "smtp.rcpt", "a\0b", "Ann@Example.org"), found[4];
	append_as(f, id, "relay.reply", "250 ok\r\n", NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(trace(f, id, &l), 4);
		const struct event *e = l.first;
		assert_string_equal(e->name, "smtp.rcpt");
		assert_string_equal(e->fields->key, "value");
		assert_true(span_eq_str(e->fields->value, "a"));
		assert_true(span_eq_str(e->fields->next->value, "7"));
		assert_string_equal(e->next->next->name, "relay.reply");
		assert_true(span_eq_str(e->next->next->fields->value, "250 ok\r\n"));
		assert_int_equal(find(f, "ANN@example.org", found, 4), 1);
		assert_true(id_eq(&found[0], &id));
		assert_int_equal(find(f, "<shared@example.org>", found, 4), 1);
		assert_int_equal(find(f, "bob@example.org", found, 4), 0);
		reopen(f);
	}
	assert_int_equal(trace(f, id_new(), &l), 0);
	event_note(&l, "an empty trace can be added to"); /* its arena is ours */
	assert_int_equal(l.count, 1);
}

static void across_segments(void **state)
{
	struct fixture *f = *state;
	struct event_list l;
	struct id ids[200], found[300];
	char value[1000], key[64];
	f->conf.segment_bytes = 20000;
	reopen(f);
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	struct id first = append(f, "first", "x", "first@example.org");
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "user%d@example.org", i);
		ids[i] = append(f, "step", value, key);
		if (i % 10 == 0)
			events_flush(f->e); /* as the writer would: one batch per few records */
		if (i % 50 == 0)
			append_as(f, first, "again", "x", "first@example.org");
	}
	for (int i = 0; i < 2; i++) {
		assert_true(files(f, ".idx", NULL, 0) >= 5);
		for (int j = 0; j < 200; j += 7) {
			snprintf(key, sizeof(key), "user%d@example.org", j);
			assert_int_equal(find(f, key, found, 300), 1);
			assert_true(id_eq(&found[0], &ids[j]));
			assert_int_equal(trace(f, ids[j], &l), 2);
		}
		assert_int_equal(trace(f, first, &l), 10);
		assert_int_equal(find(f, "<Shared@example.org>", found, 300), 201);
		for (int j = 1; j < 201; j++)
			assert_true(memcmp(found[j - 1].b, found[j].b, 16) > 0);
		assert_int_equal(find(f, "<Shared@example.org>", found, 5), 5);
		assert_int_equal(find(f, "first@example.org", found, 5), 1);
		reopen(f);
	}
}

static void a_lost_index_is_made_again(void **state)
{
	struct fixture *f = *state;
	struct event_list l;
	struct id found[2];
	char path[400];
	f->conf.segment_bytes = 100;
	reopen(f);
	struct id id = append(f, "step", "x", "ann@example.org");
	events_flush(f->e);
	append(f, "step", "x", "bob@example.org");
	events_flush(f->e);
	assert_int_equal(files(f, ".idx", path, sizeof(path)), 1);
	assert_int_equal(unlink(path), 0);
	reopen(f);
	assert_int_equal(files(f, ".idx", NULL, 0), 1);
	assert_int_equal(trace(f, id, &l), 2);
	FILE *damage = fopen(path, "r+");
	assert_non_null(damage);
	fputs("not an index", damage);
	fclose(damage);
	reopen(f);
	assert_int_equal(find(f, "ann@example.org", found, 2), 1);
}

/* However the last bytes were torn, what lies before stays and new records follow it. */
static void torn_tails(void **state)
{
	struct fixture *f = *state;
	struct event_list l;
	char path[400];
	struct stat st;
	struct id kept = append(f, "kept", "x", "ann@example.org");
	events_flush(f->e);
	files(f, ".log", path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	off_t good = st.st_size;
	struct id torn = append(f, "torn", "x", "bob@example.org");
	events_flush(f->e);
	assert_int_equal(stat(path, &st), 0);
	off_t whole = st.st_size;
	_cleanup_(freep) char *bytes = xmalloc((size_t)whole);
	int fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, bytes, (size_t)whole, 0), whole);
	for (off_t cut = good; cut < whole; cut += 13) {
		events_close(f->e);
		f->e = NULL;
		assert_int_equal(ftruncate(fd, cut), 0);
		reopen(f);
		assert_int_equal(trace(f, kept, &l), 2);
		assert_int_equal(trace(f, torn, &l), 0);
		struct id fresh = append(f, "fresh", "x", NULL);
		assert_int_equal(trace(f, fresh, &l), 2);
		reopen(f);
		assert_int_equal(trace(f, fresh, &l), 2);
		events_close(f->e);
		f->e = NULL;
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, bytes, (size_t)whole, 0), whole);
	}
	bytes[good + 20] ^= 1; /* a bit that turned */
	assert_int_equal(pwrite(fd, bytes, (size_t)whole, 0), whole);
	reopen(f);
	assert_int_equal(trace(f, kept, &l), 2);
	assert_int_equal(trace(f, torn, &l), 0);
	events_close(f->e);
	f->e = NULL;
	assert_int_equal(ftruncate(fd, 3), 0); /* not even its head */
	close(fd);
	reopen(f);
	assert_int_equal(trace(f, append(f, "new", "x", NULL), &l), 2);
}

static void old_segments_go(void **state)
{
	struct fixture *f = *state;
	struct event_list l;
	f->conf.segment_bytes = 100;
	reopen(f);
	struct id old = append(f, "old", "x", "ann@example.org");
	events_flush(f->e);
	clock_set_offset(20 * HOUR);
	struct id young = append(f, "young", "x", "ann@example.org");
	events_flush(f->e);
	assert_int_equal(trace(f, old, &l), 2);
	clock_set_offset(30 * HOUR);
	append(f, "now", "x", NULL);
	events_flush(f->e);
	assert_int_equal(trace(f, old, &l), 0);
	assert_int_equal(trace(f, young, &l), 2);
	assert_int_equal(files(f, ".idx", NULL, 0), 1);
}

static void large_records_are_cut(void **state)
{
	struct fixture *f = *state;
	struct arena mem = { 0 };
	struct event_list l, got;
	struct id id = id_new();
	char *value = xmalloc(100001);
	memset(value, 'v', 100000);
	value[100000] = '\0';
	event_list_init(&l, &mem);
	for (int i = 0; i < 50; i++)
		event_str(event_note(&l, "step"), "value", value, &mem);
	events_append(f->e, &id, &l, NULL, 0);
	assert_int_equal(trace(f, id, &got), 10);
	reopen(f);
	assert_int_equal(trace(f, id, &got), 10);
	assert_int_equal(events_lost(f->e), 0);
	free(value);
	arena_done(&mem);
}

/* Nobody flushes: the writer does, soon. */
static void the_writer_writes(void **state)
{
	struct fixture *f = *state;
	char path[400];
	struct stat st = { 0 };
	append(f, "step", "x", NULL);
	for (int i = 0; i < 500 && st.st_size < 50; i++) {
		usleep(10000);
		if (files(f, ".log", path, sizeof(path)))
			assert_int_equal(stat(path, &st), 0);
	}
	assert_true(st.st_size > 50);
}

static void *append_many(void *arg)
{
	for (int i = 0; i < 300; i++)
		append(arg, "step", "some text of a reply", "crowd@example.org");
	return NULL;
}

static void many_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t t[3];
	static struct id found[1000];
	f->conf.segment_bytes = 30000;
	reopen(f);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, append_many, f), 0);
	for (int i = 0; i < 20; i++)
		find(f, "crowd@example.org", found, 1000);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(find(f, "crowd@example.org", found, 1000), 900);
	reopen(f);
	assert_int_equal(find(f, "crowd@example.org", found, 1000), 900);
}

static void counters(void **state)
{
	for (int c = 0; c < COUNT_MAX; c++) {
		uint64_t before = count_get((enum counter)c);
		count_add((enum counter)c, 3);
		assert_int_equal(count_get((enum counter)c), before + 3);
		for (int other = 0; other < c; other++)
			assert_string_not_equal(count_name((enum counter)c),
						count_name((enum counter)other));
	}
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_goes_in_comes_out),
		T(across_segments),
		T(a_lost_index_is_made_again),
		T(torn_tails),
		T(old_segments_go),
		T(large_records_are_cut),
		T(the_writer_writes),
		T(many_threads),
		cmocka_unit_test(counters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
