/* A process that is killed at each failpoint of the store: what it was told stays true, and what is
 * left passes the check. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/failpoint.h"
#include "store/store.h"

#define ID     SPAN("0123456789abcdef")
#define ROUNDS 3

static const char *const points[] = {
	"store.blob.before_link",     "store.blob.after_link",	     "store.append.before_commit",
	"store.append.after_commit",  "store.flags.after_commit",    "store.copy.before_commit",
	"store.copy.after_commit",    "store.expunge.before_commit", "store.expunge.before_unlink",
	"store.mailbox.after_commit", "store.key.after_commit",	     "store.outbox.after_commit",
};

struct told { /* one acknowledged append */
	uint32_t number, uid;
};

static char dir[64];
static char large[20000];

static struct store *open_store(void)
{
	struct store *s = NULL;
	struct store_conf conf = { .dir = dir, .max_open = 4, .inline_max = 4096 };
	assert_int_equal(store_open(&conf, &s, NULL), 0);
	return s;
}

static struct store_message message(uint32_t number)
{
	struct store_message m = { .bytes = SPAN("Subject: small\r\n\r\nhello\r\n"),
				   .spool_fd = -1 };
	if (number % 2)
		m.bytes = span_of(large, sizeof(large));
	memcpy(m.delivery_key, &number, sizeof(number));
	m.delivery_key[15] = 1;
	return m;
}

static void tell_append(struct account *a, uint32_t number, int fd)
{
	struct store_message m = message(number);
	struct store_outbox row = { 0, 1, SPAN("forward") };
	m.outbox = &row;
	m.n_outbox = 1;
	struct imap_uid uid;
	if (store_append(a, SPAN("INBOX"), false, &m, &uid, NULL) != 0)
		_exit(2);
	struct told t = { number, uid.v };
	if (write(fd, &t, sizeof(t)) != sizeof(t))
		_exit(2);
}

/* Passes every failpoint. */
static void one_round(struct account *a, uint32_t round, int fd)
{
	struct arena mem;
	struct mailbox_info inbox, trash;
	struct store_outbox *out;
	size_t n;
	uint64_t modseq;
	arena_init(&mem);
	for (uint32_t i = 0; i < 4; i++)
		tell_append(a, round * 4 + i, fd);
	int r = store_mailbox_find(a, SPAN("INBOX"), &mem, &inbox);
	r |= store_mailbox_find(a, SPAN("Trash"), &mem, &trash);
	struct imap_uid uids[] = { { round * 4 + 1 }, { round * 4 + 2 }, { round * 4 + 3 } };
	struct store_flags f = { FLAG_SEEN, 0 };
	r |= store_flags(a, inbox.id, uids, 3, STORE_FLAGS_ADD, &f, 0, &modseq, NULL, NULL);
	r |= store_copy(a, inbox.id, uids, 2, trash.id, false, NULL, NULL, &n, NULL);
	r |= store_copy(a, inbox.id, uids + 2, 1, trash.id, true, NULL, NULL, &n, NULL);
	r |= store_expunge(a, inbox.id, uids, 2, false, &n);
	r |= store_expunge(a, trash.id, NULL, 0, false, &n);
	r |= store_mailbox_create(a, SPAN("x/y"), 0, NULL);
	r |= store_mailbox_rename(a, SPAN("x"), SPAN("z"));
	r |= store_mailbox_delete(a, SPAN("z/y")) | store_mailbox_delete(a, SPAN("z"));
	r |= store_key_drop(a, (const uint8_t[16]){ 77 });
	r |= store_outbox_list(a, 0, 1, &mem, &out, &n);
	r |= store_outbox_drop(a, out[0].id);
	if (r != 0)
		_exit(3);
	arena_done(&mem);
}

static void child(const char *point, int fd)
{
	struct account *a = NULL;
	setenv("POSTRIDER_FAILPOINT", point, 1);
	failpoint_setup();
	if (account_get(open_store(), ID, &a, NULL) != 0)
		_exit(4);
	for (uint32_t i = 0; i < ROUNDS; i++)
		one_round(a, i, fd);
	_exit(5); /* the failpoint was never passed */
}

/* A known key answers the UID that was told, and so changes nothing. */
static void check_told(struct account *a, int fd, bool *ret_any)
{
	struct told t;
	while (read(fd, &t, sizeof(t)) == sizeof(t)) {
		struct store_message m = message(t.number);
		struct imap_uid uid;
		assert_int_equal(store_append(a, SPAN("INBOX"), false, &m, &uid, NULL), 0);
		assert_int_equal(uid.v, t.uid);
		*ret_any = true;
	}
}

static void check_account(struct account *a)
{
	struct buf report = BUF_INIT(1 << 20);
	if (store_check(a, &report) != 0)
		fail_msg("%s", buf_cstr(&report));
	buf_done(&report);
}

static void crash_at(const char *name, int passage)
{
	char point[64], cmd[80];
	snprintf(dir, sizeof(dir), "/tmp/test_crash.XXXXXX");
	assert_non_null(mkdtemp(dir));
	struct store *s = open_store();
	struct account *a = NULL;
	assert_int_equal(account_create(s, ID, NULL), 0);
	store_close(s);
	snprintf(point, sizeof(point), "%s:%d", name, passage);
	int fds[2], status;
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0)
		child(point, fds[1]);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("%s: the process ended with %x", point, status);
	bool any = false;
	s = open_store();
	assert_int_equal(account_get(s, ID, &a, NULL), 0);
	check_account(a);
	check_told(a, fds[0], &any);
	check_account(a);
	assert_true(any || strncmp(name, "store.blob", 10) == 0 ||
		    strncmp(name, "store.append", 12) == 0);
	account_put(a);
	store_close(s);
	close(fds[0]);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

static void test_crashes(void **state)
{
	memset(large, 'x', sizeof(large));
	memcpy(large, "Subject: large\r\n\r\n", 18);
	for (size_t i = 0; i < ARRAY_LEN(points); i++)
		for (int passage = 1; passage <= ROUNDS; passage++)
			crash_at(points[i], passage);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_crashes) };
	return cmocka_run_group_tests_name("store, killed at each failpoint", tests, NULL, NULL);
}
