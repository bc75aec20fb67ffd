/* Appending to a mailbox of 10,000 messages writes what appending to an empty one does: counted in
 * WAL pages, not in time.  Its view is patched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store_int.h"

#define ID	 SPAN("0123456789abcdef")
#define MESSAGES 10000
#define SAMPLE	 100

static char dir[64];

static void append_n(struct account *a, struct store_message *many, size_t n)
{
	assert_int_equal(store_append_many(a, SPAN("INBOX"), many, n, NULL, NULL), 0);
}

/* WAL pages that SAMPLE single appends write. */
static size_t cost(struct account *a, struct store_message *m)
{
	assert_int_equal(db_checkpoint(a->db), 0);
	append_n(a, m, 1); /* restarts the WAL */
	size_t before = db_wal_pages(a->db);
	for (int i = 0; i < SAMPLE; i++)
		append_n(a, m, 1);
	return db_wal_pages(a->db) - before;
}

static void test_flat(void **state)
{
	struct store *s = NULL;
	struct account *a = NULL;
	struct store_conf conf = { .dir = dir, .max_open = 4, .inline_max = 4096 };
	assert_int_equal(store_open(&conf, &s, NULL), 0);
	assert_int_equal(account_create(s, ID, NULL), 0);
	assert_int_equal(account_get(s, ID, &a, NULL), 0);
	struct store_message *many = xcalloc(MESSAGES, sizeof(*many));
	for (size_t i = 0; i < MESSAGES; i++)
		many[i] = (struct store_message){ .bytes = SPAN("Subject: x\r\n\r\nhello\r\n"),
						  .spool_fd = -1 };
	append_n(a, many, SAMPLE);
	size_t empty = cost(a, many);
	append_n(a, many, MESSAGES);
	size_t full = cost(a, many);
	print_message("%d appends: %zu WAL pages at first, %zu with %d messages\n", SAMPLE, empty,
		      full, MESSAGES);
	/* A tree may be one level higher; pages written do not follow the number of messages. */
	assert_true(full <= empty + SAMPLE);

	struct mailbox_info i;
	_cleanup_(arena_donep) struct arena mem;
	arena_init(&mem);
	assert_int_equal(store_mailbox_find(a, SPAN("INBOX"), &mem, &i), 0);
	const struct store_view *v, *w;
	assert_int_equal(store_view_get(a, i.id, &v), 0);
	assert_int_equal(v->n, MESSAGES + 3 * SAMPLE + 2);
	append_n(a, many, 1);
	assert_int_equal(store_view_get(a, i.id, &w), 0);
	assert_int_equal(w->n, v->n + 1);
	assert_memory_equal(w->rows, v->rows, v->n * sizeof(v->rows[0]));
	store_view_put(v);
	store_view_put(w);
	free(many);
	account_put(a);
	store_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_flat) };
	char cmd[128];
	snprintf(dir, sizeof(dir), "/tmp/test_flat.XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	int r = cmocka_run_group_tests_name("append stays flat", tests, NULL, NULL);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) == 0 ? r : 1;
}
