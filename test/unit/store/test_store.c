/* store: S1 to S7 in process, with a pool of readers and with a single connection. */
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store.h"
#include "sys/file.h"

#define ID SPAN("0123456789abcdef")
#define MAIL                                                                                 \
	"From: Ada <ada@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n"           \
	"Message-ID: <1@example.org>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nHello " \
	"Bob\r\n"

static bool single;
static char dir[64];
static struct store *store;
static struct account *acc;
static struct arena mem;

static void open_store(void)
{
	struct store_conf conf = {
		.dir = dir, .max_open = 8, .inline_max = 4096, .single_connection = single
	};
	struct err_info info = { 0 };
	if (store_open(&conf, &store, &info) != 0)
		fail_msg("store_open: %s", info.text);
}

static void get_account(void)
{
	struct err_info info = { 0 };
	if (account_get(store, ID, &acc, &info) != 0)
		fail_msg("account_get: %s", info.text);
}

static void reopen(void)
{
	account_put(acc);
	store_close(store);
	open_store();
	get_account();
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/test_store.XXXXXX");
	assert_non_null(mkdtemp(dir));
	arena_init(&mem);
	open_store();
	assert_int_equal(account_create(store, ID, NULL), 0);
	get_account();
	return 0;
}

/* Every test leaves an account that passes the check. */
static int teardown(void **state)
{
	struct buf report = BUF_INIT(1 << 20);
	if (acc && store_check(acc, &report) != 0)
		fail_msg("check: %s", buf_cstr(&report));
	buf_done(&report);
	account_put(acc);
	acc = NULL;
	store_close(store);
	arena_done(&mem);
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd) == 0 ? 0 : -1;
}

static struct imap_uid append_to(const char *box, struct store_message m)
{
	struct imap_uid uid = { 0 };
	if (!m.bytes.p && m.spool_fd <= 0)
		m.bytes = SPAN(MAIL);
	if (m.spool_fd == 0)
		m.spool_fd = -1;
	assert_int_equal(store_append(acc, span_str(box), false, &m, &uid, NULL), 0);
	return uid;
}

static struct imap_uid append(const char *box)
{
	return append_to(box, (struct store_message){ 0 });
}

static struct mailbox_info find(const char *box)
{
	struct mailbox_info i;
	assert_int_equal(store_mailbox_find(acc, span_str(box), &mem, &i), 0);
	return i;
}

static const struct store_view *view(int64_t id)
{
	const struct store_view *v = NULL;
	assert_int_equal(store_view_get(acc, id, &v), 0);
	return v;
}

static unsigned count_blobs(void)
{
	char cmd[160];
	unsigned n = 0;
	snprintf(cmd, sizeof(cmd), "ls %s/01/0123456789abcdef/blobs | wc -l", dir);
	FILE *f = popen(cmd, "r");
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

/* --- accounts --- */

static void test_account(void **state)
{
	struct account *other = NULL;
	assert_int_equal(account_create(store, ID, NULL), ERR_EXIST);
	assert_int_equal(account_get(store, SPAN("fedcba9876543210"), &other, NULL), ERR_NOENT);
	assert_int_equal(account_get(store, SPAN("../../etc/passwd"), &other, NULL), ERR_INVAL);
	struct mailbox_info *all;
	size_t n;
	assert_int_equal(store_mailbox_list(acc, true, &mem, &all, &n), 0);
	assert_int_equal(n, 6);
	assert_true(span_eq(all[0].name, SPAN("Archive")) && all[0].special == SPECIAL_ARCHIVE);
	assert_int_equal(account_create(store, SPAN("fedcba9876543210"), NULL), 0);
	assert_int_equal(account_get(store, SPAN("fedcba9876543210"), &other, NULL), 0);
	account_put(other);
	assert_int_equal(account_remove(store, SPAN("fedcba9876543210")), 0);
	assert_int_equal(account_remove(store, SPAN("fedcba9876543210")), ERR_NOENT);
	assert_int_equal(account_get(store, SPAN("fedcba9876543210"), &other, NULL), ERR_NOENT);
}

/* A folder that vanished under an open handle is never written to again. */
static void test_vanished(void **state)
{
	char cmd[160];
	append("INBOX");
	account_put(acc);
	acc = NULL;
	snprintf(cmd, sizeof(cmd), "rm -r %s/01/0123456789abcdef", dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(account_get(store, ID, &acc, NULL), ERR_NOENT);
}

/* --- messages --- */

static void test_append_and_read(void **state)
{
	struct store_message m = { .bytes = SPAN(MAIL),
				   .spool_fd = -1,
				   .trace = id_new(),
				   .flags = { FLAG_SEEN, 5 },
				   .internal_date = 1234567 };
	struct imap_uid uid;
	uint32_t validity;
	assert_int_equal(store_append(acc, SPAN("inbox"), false, &m, &uid, &validity), 0);
	assert_int_equal(uid.v, 1);
	reopen(); /* S1 */
	struct mailbox_info box = find("INBOX");
	assert_int_equal(box.uidvalidity, validity);
	assert_int_equal(box.uidnext, 2);
	assert_int_equal(box.messages, 1);
	assert_int_equal(box.unseen, 0);
	assert_int_equal(box.bytes, strlen(MAIL));
	struct store_item item;
	assert_int_equal(store_item_get(acc, box.id, uid,
					STORE_WANT_ENVELOPE | STORE_WANT_STRUCTURE, &mem, &item),
			 0);
	assert_int_equal(item.size, strlen(MAIL));
	assert_int_equal(item.internal_date, 1234567);
	assert_true(id_eq(&item.trace, &m.trace));
	assert_int_equal(item.header_size, strstr(MAIL, "\r\n\r\n") + 4 - MAIL);
	assert_true(span_find_span(item.envelope, SPAN("\"Hello\"")) != SPAN_NPOS);
	assert_true(span_ifind_span(item.bodystructure, SPAN("\"TEXT\" \"PLAIN\"")) != SPAN_NPOS);
	struct buf b = BUF_INIT(1 << 20);
	assert_int_equal(store_body_read(acc, item.body_id, 0, UINT64_MAX, &b), 0);
	assert_true(span_eq_str(buf_span(&b), MAIL));
	buf_reset(&b);
	assert_int_equal(store_body_read(acc, item.body_id, 6, 3, &b), 0);
	assert_true(span_eq_str(buf_span(&b), "Ada"));
	buf_reset(&b);
	assert_int_equal(store_body_read(acc, item.body_id, 100000, 3, &b), 0);
	assert_int_equal(b.n, 0);
	span header;
	assert_int_equal(store_text_get(acc, item.body_id, &mem, &header), 0);
	assert_true(span_eq(header, span_of(MAIL, item.header_size)));
	assert_int_equal(store_item_get(acc, box.id, (struct imap_uid){ 9 }, 0, &mem, &item),
			 ERR_NOENT);
	uint64_t bytes, messages;
	assert_int_equal(account_usage(acc, &bytes, &messages), 0);
	assert_int_equal(bytes, strlen(MAIL));
	assert_int_equal(messages, 1);
	buf_done(&b);
}

static void test_append_targets(void **state)
{
	struct store_message m = { .bytes = SPAN(MAIL), .spool_fd = -1 };
	assert_int_equal(store_append(acc, SPAN("a/b/c"), false, &m, NULL, NULL), ERR_NOENT);
	assert_int_equal(store_append(acc, SPAN("a/b/c"), true, &m, NULL, NULL), 0);
	assert_int_equal(find("a/b/c").messages, 1);
	assert_true(find("a/b").has_children && find("a").selectable);
	struct store_message many[3] = { m, m, m };
	struct imap_uid uids[3];
	uint64_t before = find("INBOX").modseq;
	assert_int_equal(store_append_many(acc, SPAN("INBOX"), many, 3, uids, NULL), 0);
	assert_int_equal(uids[0].v, 1);
	assert_int_equal(uids[2].v, 3);
	assert_true(find("INBOX").modseq > before); /* S3 */
	/* poison: nothing was parsed */
	m.opaque = true;
	struct imap_uid uid;
	struct store_item item;
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &uid, NULL), 0);
	assert_int_equal(store_item_get(acc, find("INBOX").id, uid, 3, &mem, &item), 0);
	assert_int_equal(item.header_size, 0);
	assert_true(span_find_span(item.bodystructure, SPAN("\"APPLICATION\" \"OCTET-STREAM\"")) !=
		    SPAN_NPOS);
}

static void fill(struct buf *b, size_t n)
{
	buf_put_str(b, MAIL);
	while (b->n < n)
		buf_put_str(b, "A line of text that makes the message long.\r\n");
}

/* S5: large bodies are files, shared by copies and removed with the last of them. */
static void test_blobs(void **state)
{
	struct buf big = BUF_INIT(1 << 20), b = BUF_INIT(1 << 20);
	fill(&big, 20000);
	append_to("INBOX", (struct store_message){ .bytes = buf_span(&big) });
	_cleanup_(close_fdp) int fd = file_spool_open(dir);
	assert_true(fd > 0);
	assert_int_equal(file_write_all(fd, buf_span(&big)), 0);
	append_to("INBOX", (struct store_message){ .spool_fd = fd, .size = big.n });
	assert_int_equal(count_blobs(), 2);
	int64_t inbox = find("INBOX").id, trash = find("Trash").id;
	for (uint32_t uid = 1; uid <= 2; uid++) {
		struct store_item item;
		buf_reset(&b);
		assert_int_equal(
			store_item_get(acc, inbox, (struct imap_uid){ uid }, 0, &mem, &item), 0);
		assert_int_equal(item.size, big.n);
		assert_int_equal(store_body_read(acc, item.body_id, 0, big.n, &b), 0);
		assert_true(span_eq(buf_span(&b), buf_span(&big)));
		buf_reset(&b);
		assert_int_equal(store_body_read(acc, item.body_id, 15000, 10, &b), 0);
		assert_memory_equal(b.p, big.p + 15000, 10);
	}
	struct imap_uid uids[] = { { 1 }, { 2 }, { 77 } }, old[3], new[3];
	size_t n;
	assert_int_equal(store_copy(acc, inbox, uids, 3, trash, false, old, new, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(old[1].v, 2);
	assert_int_equal(new[1].v, 2);
	assert_int_equal(store_expunge(acc, inbox, NULL, 0, false, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(count_blobs(), 2);
	assert_int_equal(store_expunge(acc, trash, uids, 1, false, &n), 0);
	assert_int_equal(count_blobs(), 1);
	assert_int_equal(store_mailbox_delete(acc, SPAN("Trash")), 0);
	assert_int_equal(count_blobs(), 0);
	/* a spool file that is small goes inside */
	_cleanup_(close_fdp) int small = file_spool_open(dir);
	assert_int_equal(file_write_all(small, SPAN(MAIL)), 0);
	append_to("INBOX", (struct store_message){ .spool_fd = small, .size = strlen(MAIL) });
	assert_int_equal(count_blobs(), 0);
	/* the sweep takes what is old only */
	char path[160];
	snprintf(path, sizeof(path), "%s/01/0123456789abcdef/blobs/00000000000000aa", dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	store_maintain(store);
	assert_int_equal(count_blobs(), 1);
	buf_done(&big);
	buf_done(&b);
}

/* S4 */
static void test_delivery_key(void **state)
{
	struct store_message m = { .bytes = SPAN(MAIL),
				   .spool_fd = -1,
				   .delivery_key = { 1, 2, 3 } };
	struct imap_uid a = { 0 }, b = { 0 };
	append("INBOX");
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &a, NULL), 0);
	uint64_t modseq = find("INBOX").modseq;
	reopen();
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &b, NULL), 0);
	assert_int_equal(a.v, b.v);
	assert_int_equal(find("INBOX").messages, 2);
	assert_int_equal(find("INBOX").modseq, modseq);
	/* a large duplicate leaves no blob behind */
	struct buf big = BUF_INIT(1 << 20);
	fill(&big, 20000);
	m.bytes = buf_span(&big);
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &b, NULL), 0);
	assert_int_equal(count_blobs(), 0);
	assert_int_equal(store_key_drop(acc, m.delivery_key), 0);
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &b, NULL), 0);
	assert_int_equal(b.v, 3);
	buf_done(&big);
}

/* S6: with the message or not at all; a known key brings none. */
static void test_outbox(void **state)
{
	struct store_outbox rows[] = { { 0, 1, SPAN("forward") }, { 0, 2, SPAN("vacation") } },
			    *out;
	struct store_message m = { .bytes = SPAN(MAIL),
				   .spool_fd = -1,
				   .delivery_key = { 9 },
				   .outbox = rows,
				   .n_outbox = 2 };
	size_t n;
	assert_int_equal(store_append(acc, SPAN("missing"), false, &m, NULL, NULL), ERR_NOENT);
	assert_int_equal(store_outbox_list(acc, 0, 10, &mem, &out, &n), 0);
	assert_int_equal(n, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, NULL, NULL), 0);
	reopen();
	assert_int_equal(store_outbox_list(acc, 0, 10, &mem, &out, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(out[1].kind, 2);
	assert_true(span_eq_str(out[1].data, "vacation"));
	int64_t last = out[1].id;
	assert_int_equal(store_outbox_drop(acc, out[0].id), 0);
	assert_int_equal(store_outbox_drop(acc, last), 0);
	m.delivery_key[0] = 8;
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, NULL, NULL), 0);
	assert_int_equal(store_outbox_list(acc, 0, 10, &mem, &out, &n), 0);
	assert_true(out[0].id > last);
}

/* D3 from above: nothing of the failed append is answered, the next look-up repairs by a copy. */
static void test_failed_write(void **state)
{
	struct imap_uid uid = append("INBOX");
	struct store_message m = { .bytes = SPAN(MAIL), .spool_fd = -1 };
	struct rlimit old, low;
	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 200000;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &low);
	int r = 0, n = 1;
	while (n < 100 && (r = store_append(acc, SPAN("INBOX"), false, &m, &uid, NULL)) == 0)
		n++;
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, ERR_SYNC);
	assert_int_equal(store_append(acc, SPAN("INBOX"), false, &m, &uid, NULL), ERR_SYNC);
	account_put(acc);
	get_account();
	assert_int_equal(find("INBOX").messages, n);
	assert_int_equal(append("INBOX").v, n + 1);
}

/* --- mailboxes --- */

static void test_names(void **state)
{
	static const char *bad[] = { "",   "/",	     "a/",   "/a",   "a//b",
				     "..", "a/../b", "a\nb", "\xff", "." };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(store_mailbox_create(acc, span_str(bad[i]), 0, NULL), ERR_INVAL);
	char deep[NAME_MAX] = "a";
	for (int i = 1; i < 32; i++)
		strcat(deep, "/a");
	assert_int_equal(store_mailbox_create(acc, span_str(deep), 0, NULL), 0);
	strcat(deep, "/a");
	assert_int_equal(store_mailbox_create(acc, span_str(deep), 0, NULL), ERR_INVAL);
	char *longest = malloc(1002);
	memset(longest, 'x', 1002);
	assert_int_equal(store_mailbox_create(acc, span_of(longest, 1000), 0, NULL), 0);
	assert_int_equal(store_mailbox_create(acc, span_of(longest, 1001), 0, NULL), ERR_INVAL);
	free(longest);
	assert_int_equal(store_mailbox_create(acc, SPAN("iNbOx"), 0, NULL), ERR_EXIST);
	assert_int_equal(store_mailbox_create(acc, SPAN("Inbox/sub"), 0, NULL), 0);
	assert_int_equal(find("INBOX/sub").messages, 0);
	assert_int_equal(store_mailbox_create(acc, SPAN("Entw\xc3\xbcrfe"), 0, NULL), 0);
}

static void test_children(void **state)
{
	struct mailbox_info *all, one;
	size_t n;
	assert_int_equal(store_mailbox_create(acc, SPAN("p/q"), 0, NULL), 0);
	assert_int_equal(store_mailbox_create(acc, SPAN("p q"), 0, NULL),
			 0); /* sorts between p and p/q */
	assert_int_equal(store_mailbox_list(acc, false, &mem, &all, &n), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(all[i].has_children, span_eq_str(all[i].name, "p"));
	append("p");
	int64_t id = find("p").id;
	assert_int_equal(store_mailbox_delete(acc, SPAN("p")), 0); /* becomes \Noselect */
	one = find("p");
	assert_false(one.selectable);
	assert_true(one.has_children);
	assert_int_equal(store_view_get(acc, id, &(const struct store_view *){ 0 }), ERR_NOENT);
	assert_int_equal(store_view_get(acc, one.id, &(const struct store_view *){ 0 }), ERR_NOENT);
	assert_int_equal(store_mailbox_delete(acc, SPAN("p")), ERR_PERM);
	assert_int_equal(store_mailbox_create(acc, SPAN("p"), 0, NULL), 0);
	assert_true(find("p").selectable);
	assert_int_equal(store_mailbox_delete(acc, SPAN("p/q")), 0);
	assert_int_equal(store_mailbox_delete(acc, SPAN("p")), 0);
	assert_int_equal(store_mailbox_find(acc, SPAN("p"), &mem, &one), ERR_NOENT);
	assert_int_equal(store_mailbox_delete(acc, SPAN("inbox")), ERR_PERM);
	assert_int_equal(store_mailbox_delete(acc, SPAN("nothing")), ERR_NOENT);
}

/* S2: across delete, create and rename. */
static void test_uidvalidity(void **state)
{
	uint32_t last = 0;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(store_mailbox_create(acc, SPAN("x"), 0, NULL), 0);
		assert_true(find("x").uidvalidity > last);
		last = find("x").uidvalidity;
		append("x");
		assert_int_equal(store_mailbox_delete(acc, SPAN("x")), 0);
	}
	/* an older mailbox comes to the name */
	uint32_t drafts = find("Drafts").uidvalidity;
	assert_true(drafts < last);
	assert_int_equal(store_mailbox_rename(acc, SPAN("Drafts"), SPAN("x")), 0);
	assert_true(find("x").uidvalidity > last);
	/* without such a past it keeps its own */
	uint32_t sent = find("Sent").uidvalidity;
	assert_int_equal(store_mailbox_rename(acc, SPAN("Sent"), SPAN("y")), 0);
	assert_int_equal(find("y").uidvalidity, sent);
	assert_int_equal(store_mailbox_rename(acc, SPAN("y"), SPAN("Sent")), 0);
	assert_int_equal(find("Sent").uidvalidity, sent);
}

static void test_rename(void **state)
{
	struct mailbox_info i;
	assert_int_equal(store_mailbox_create(acc, SPAN("a/b/c"), 0, NULL), 0);
	append("a/b/c");
	assert_int_equal(store_mailbox_rename(acc, SPAN("a"), SPAN("INBOX")), ERR_EXIST);
	assert_int_equal(store_mailbox_rename(acc, SPAN("a"), SPAN("a/z")), ERR_INVAL);
	assert_int_equal(store_mailbox_rename(acc, SPAN("none"), SPAN("z")), ERR_NOENT);
	int64_t id = find("a/b/c").id;
	assert_int_equal(store_mailbox_rename(acc, SPAN("a"), SPAN("new/top")), 0);
	assert_int_equal(find("new/top/b/c").id, id);
	assert_int_equal(find("new/top/b/c").messages, 1);
	assert_true(find("new").selectable);
	assert_int_equal(store_mailbox_find(acc, SPAN("a/b"), &mem, &i), ERR_NOENT);
	/* INBOX stays and gives its messages */
	append("INBOX");
	append_to("INBOX", (struct store_message){ .flags = { FLAG_SEEN, 0 } });
	struct imap_uid gone = { 1 };
	size_t n;
	append("INBOX");
	assert_int_equal(store_expunge(acc, find("INBOX").id, &gone, 1, false, &n), 0);
	const struct store_view *before = view(find("INBOX").id);
	assert_int_equal(store_mailbox_rename(acc, SPAN("INBOX"), SPAN("old")), 0);
	assert_int_equal(find("INBOX").messages, 0);
	assert_int_equal(find("INBOX").uidnext, 4);
	assert_int_equal(find("old").messages, 2);
	assert_int_equal(find("old").unseen, 1);
	assert_int_equal(find("old").uidnext, 3);
	const struct store_view *after = view(find("INBOX").id), *old = view(find("old").id);
	assert_int_equal(before->n, 2);
	assert_int_equal(after->n, 0);
	assert_int_equal(old->rows[0].flags, FLAG_SEEN);
	store_view_put(before);
	store_view_put(after);
	store_view_put(old);
}

static void test_subscriptions(void **state)
{
	struct mailbox_info *all;
	size_t n;
	assert_int_equal(store_mailbox_subscribe(acc, SPAN("not/there"), true), 0);
	assert_int_equal(store_mailbox_subscribe(acc, SPAN("Junk"), false), 0);
	assert_int_equal(store_mailbox_list(acc, true, &mem, &all, &n), 0);
	assert_int_equal(n, 6);
	assert_true(span_eq_str(all[5].name, "not/there"));
	assert_int_equal(all[5].id, 0);
	assert_false(all[5].selectable);
	assert_int_equal(store_mailbox_list(acc, false, &mem, &all, &n), 0);
	assert_int_equal(n, 6);
	assert_false(find("Junk").subscribed);
}

/* --- flags and views --- */

static void test_flags(void **state)
{
	for (int i = 0; i < 4; i++)
		append("INBOX");
	int64_t inbox = find("INBOX").id;
	struct imap_uid uids[] = { { 1 }, { 2 }, { 9 } }, failed[3];
	struct store_flags seen = { FLAG_SEEN, 1 };
	uint64_t modseq, first = find("INBOX").modseq;
	size_t n_failed;
	assert_int_equal(
		store_flags(acc, inbox, uids, 3, STORE_FLAGS_ADD, &seen, 0, &modseq, NULL, NULL),
		0);
	assert_int_equal(modseq, first + 1);
	assert_int_equal(find("INBOX").unseen, 2);
	/* no change, no modseq */
	assert_int_equal(
		store_flags(acc, inbox, uids, 2, STORE_FLAGS_ADD, &seen, 0, &modseq, NULL, NULL),
		0);
	assert_int_equal(modseq, first + 1);
	/* CONDSTORE: 1 and 2 changed after FIRST, 3 did not */
	struct imap_uid three[] = { { 1 }, { 2 }, { 3 } };
	struct store_flags flagged = { FLAG_FLAGGED, 0 };
	assert_int_equal(store_flags(acc, inbox, three, 3, STORE_FLAGS_SET, &flagged, first,
				     &modseq, failed, &n_failed),
			 0);
	assert_int_equal(n_failed, 2);
	assert_int_equal(failed[1].v, 2);
	const struct store_view *v = view(inbox);
	assert_int_equal(v->rows[0].flags, FLAG_SEEN);
	assert_int_equal(v->rows[0].keywords, 1);
	assert_int_equal(v->rows[2].flags, FLAG_FLAGGED);
	assert_int_equal(v->rows[2].modseq, modseq);
	store_view_put(v);
	assert_int_equal(store_flags(acc, inbox, three, 3, STORE_FLAGS_REMOVE, &seen, 0, &modseq,
				     NULL, NULL),
			 0);
	assert_int_equal(find("INBOX").unseen, 4);
	assert_int_equal(
		store_flags(acc, 999, three, 3, STORE_FLAGS_SET, &seen, 0, &modseq, NULL, NULL),
		ERR_NOENT);
}

static void test_keywords(void **state)
{
	unsigned bit;
	char name[32];
	assert_int_equal(store_keyword_bit(acc, SPAN("$Forwarded"), false, &bit), ERR_NOENT);
	for (unsigned i = 0; i < 64; i++) {
		snprintf(name, sizeof(name), "word%u", i);
		assert_int_equal(store_keyword_bit(acc, span_str(name), true, &bit), 0);
		assert_int_equal(bit, i);
	}
	assert_int_equal(store_keyword_bit(acc, SPAN("WORD63"), true, &bit), 0);
	assert_int_equal(bit, 63);
	assert_int_equal(store_keyword_bit(acc, SPAN("onemore"), true, &bit), ERR_TOOBIG);
	span names[64];
	size_t n;
	assert_int_equal(store_keyword_names(acc, &mem, names, &n), 0);
	assert_int_equal(n, 64);
	assert_true(span_eq_str(names[7], "word7"));
	struct imap_uid uid = append_to(
		"INBOX", (struct store_message){ .flags = { 0, UINT64_C(1) << 63 } });
	const struct store_view *v = view(find("INBOX").id);
	assert_int_equal(v->rows[uid.v - 1].keywords, UINT64_C(1) << 63);
	store_view_put(v);
}

/* The patched view must be what a fresh one is. */
static void check_view(int64_t mailbox)
{
	const struct store_view *patched = view(mailbox);
	reopen();
	const struct store_view *fresh = view(mailbox);
	assert_int_equal(patched->n, fresh->n);
	assert_int_equal(patched->modseq, fresh->modseq);
	assert_int_equal(patched->uidnext, fresh->uidnext);
	assert_memory_equal(patched->rows, fresh->rows, fresh->n * sizeof(fresh->rows[0]));
	store_view_put(patched);
	store_view_put(fresh);
}

/* S7, by random changes. */
static void test_view_patches(void **state)
{
	int64_t inbox = find("INBOX").id, junk = find("Junk").id;
	unsigned seed = 7;
	for (int round = 0; round < 60; round++) {
		const struct store_view *before = view(inbox);
		uint32_t n = before->n;
		struct imap_uid uids[4];
		size_t count;
		for (int i = 0; i < 4; i++)
			uids[i].v = 1 + (uint32_t)rand_r(&seed) % before->uidnext;
		struct store_flags f = { 1u << (rand_r(&seed) % 5), (uint64_t)rand_r(&seed) };
		switch (rand_r(&seed) % 5) {
		case 0:
			assert_int_equal(store_flags(acc, inbox, uids, 4, round % 3, &f, 0,
						     &(uint64_t){ 0 }, NULL, NULL),
					 0);
			break;
		case 1:
			assert_int_equal(store_expunge(acc, inbox, uids, 1, round % 2, &count), 0);
			break;
		case 2:
			assert_int_equal(store_copy(acc, inbox, uids, 4, round % 2 ? inbox : junk,
						    round % 3 == 0, NULL, NULL, &count, NULL),
					 0);
			break;
		default:
			append("INBOX");
			append("INBOX");
		}
		assert_int_equal(before->n, n); /* immutable */
		const struct store_view *after = view(inbox);
		for (uint32_t i = 1; i < after->n; i++)
			assert_true(after->rows[i - 1].uid < after->rows[i].uid);
		assert_true(after->uidnext >= before->uidnext && after->modseq >= before->modseq);
		const struct store_view *same = view(inbox);
		assert_ptr_equal(same, after); /* shared */
		store_view_put(same);
		store_view_put(before);
		store_view_put(after);
		if (round % 10 == 9)
			check_view(inbox);
	}
}

static void test_expunge_deleted_only(void **state)
{
	for (int i = 0; i < 3; i++)
		append("INBOX");
	int64_t inbox = find("INBOX").id;
	struct imap_uid uids[] = { { 1 }, { 2 } };
	size_t n;
	assert_int_equal(store_flags(acc, inbox, &uids[1], 1, STORE_FLAGS_ADD,
				     &(struct store_flags){ FLAG_DELETED, 0 }, 0, &(uint64_t){ 0 },
				     NULL, NULL),
			 0);
	assert_int_equal(store_expunge(acc, inbox, uids, 1, true, &n), 0);
	assert_int_equal(n, 0);
	uint64_t modseq = find("INBOX").modseq;
	assert_int_equal(store_expunge(acc, inbox, NULL, 0, true, &n), 0);
	assert_int_equal(n, 1);
	assert_true(find("INBOX").modseq > modseq);
	assert_int_equal(find("INBOX").messages, 2);
	append("INBOX");
	assert_int_equal(find("INBOX").uidnext, 5);
}

/* --- many threads --- */

static atomic_int looks;
static void look(void *arg, int64_t mailbox)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void *worker(void *arg)
{
	struct account *a = NULL;
	for (int i = 0; i < 20; i++) {
		assert_int_equal(account_get(store, ID, &a, NULL), 0);
		struct store_message m = { .bytes = SPAN(MAIL), .spool_fd = -1 };
		struct imap_uid uid;
		const struct store_view *v;
		int64_t inbox = *(int64_t *)arg;
		assert_int_equal(store_append(a, SPAN("INBOX"), false, &m, &uid, NULL), 0);
		assert_int_equal(store_view_get(a, inbox, &v), 0);
		bool seen = false; /* read your own write */
		for (uint32_t k = 0; k < v->n; k++)
			seen |= v->rows[k].uid == uid.v;
		assert_true(seen);
		store_view_put(v);
		if (i % 4 == 0)
			assert_int_equal(store_expunge(a, inbox, &uid, 1, false, &(size_t){ 0 }),
					 0);
		account_put(a);
	}
	return NULL;
}

static void test_threads(void **state)
{
	int64_t inbox = find("INBOX").id;
	atomic_store(&looks, 0);
	struct store_watch *w = store_watch_add(store, ID, inbox, look, &looks);
	struct store_watch *other = store_watch_add(store, ID, find("Junk").id, look, &looks);
	pthread_t t[10];
	for (int i = 0; i < 10; i++)
		pthread_create(&t[i], NULL, worker, &inbox);
	for (int i = 0; i < 10; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&looks), 10 * 25);
	store_watch_del(w);
	append("INBOX");
	assert_int_equal(atomic_load(&looks), 10 * 25);
	store_watch_del(other);
	assert_int_equal(find("INBOX").messages, 10 * 15 + 1);
	assert_int_equal(find("INBOX").uidnext, 202);
	check_view(inbox);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_account),	T(test_vanished),      T(test_append_and_read),
		T(test_append_targets), T(test_blobs),	       T(test_delivery_key),
		T(test_names),		T(test_children),      T(test_uidvalidity),
		T(test_rename),		T(test_subscriptions), T(test_flags),
		T(test_keywords),	T(test_view_patches),  T(test_expunge_deleted_only),
		T(test_threads),	T(test_outbox),	       T(test_failed_write),
	};
	int r = cmocka_run_group_tests_name("store", tests, NULL, NULL);
	single = true;
	return r + cmocka_run_group_tests_name("store, single connection", tests, NULL, NULL);
}
