#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "pop3/pop3.h"
#include "pop3/wire.h"

/* POP3 against a real store: one maildrop, filled once. */

static struct peer p;

#define ASK(text, want) peer_expect(&p, text, want, __LINE__)
#define IS(text, want)	assert_string_equal(peer_ask(&p, text), want)

static const char dots[] = "Subject: dots\r\n\r\n.\r\n..two\r\nplain\r\n.";

static void put(struct world *w, span text)
{
	struct account *a;
	struct imap_uid uid;
	uint32_t uidvalidity;
	struct store_message m = { .bytes = text, .spool_fd = -1, .size = text.n };
	assert_int_equal(account_get(w->env.store, span_str(w->account), &a, NULL), 0);
	assert_int_equal(store_append(a, SPAN("INBOX"), false, &m, &uid, &uidvalidity), 0);
	account_put(a);
}

static uint32_t messages(struct world *w)
{
	struct account *a;
	struct mailbox_info m;
	struct arena mem;
	arena_init(&mem);
	assert_int_equal(account_get(w->env.store, span_str(w->account), &a, NULL), 0);
	assert_int_equal(store_mailbox_find(a, SPAN("INBOX"), &mem, &m), 0);
	account_put(a);
	arena_done(&mem);
	return m.messages;
}

static void login(struct world *w)
{
	peer_open(&p, w, &pop3_wire_ops, &pop3_sess_ops, true);
	ASK("USER ann@example.org\r\nPASS correct horse\r\n", "+OK Logged in");
}

static int setup(void **state)
{
	int r = world_setup(state);
	put(*state, span_str(dots));
	_cleanup_(buf_donep) struct buf big = BUF_INIT(8 << 20);
	buf_put_str(&big, "Subject: big\r\n\r\n");
	while (big.n < 3 << 20)
		buf_put_str(&big, ".this line starts with a dot\r\nthis one does not\r\n");
	put(*state, buf_span(&big));
	return r;
}

static void test_clear_text(void **state)
{
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, false);
	ASK("CAPA\r\n", "STLS\r\n");
	assert_null(strstr(buf_cstr(&p.in), "USER"));
	ASK("USER ann@example.org\r\n", "-ERR [SYS/PERM]");
	ASK("STAT\r\n", "-ERR Log in first");
	ASK("APOP x y\r\n", "-ERR Unknown command");
	ASK("STLS\r\nUSER x\r\n", "+OK Begin TLS");
	assert_true(p.starttls);
	peer_close(&p);
}

static void test_auth(void **state)
{
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, true);
	ASK("PASS x\r\n", "-ERR Send USER first");
	ASK("USER ann@example.org\r\nPASS wrong\r\n", "-ERR [AUTH]");
	ASK("AUTH PLAIN\r\n", "+ ");
	ASK("*\r\n", "-ERR");
	ASK("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBjb3JyZWN0IGhvcnNl\r\n", "+OK Logged in");
	ASK("AUTH PLAIN\r\n", "-ERR Not in this state");
	ASK("CAPA\r\n", "PIPELINING\r\nRESP-CODES\r\n");
	peer_close(&p);
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, true);
	for (int i = 0; i < 5; i++)
		peer_ask(&p, "USER nobody@example.org\r\nPASS x\r\n");
	assert_true(p.closed);
	peer_close(&p);
}

/* A login ends with the account's generation, and takes its deletions with it. */
static void test_account_changed(void **state)
{
	struct world *w = *state;
	uint32_t before = messages(w);
	static const char *const ask[] = { "NOOP\r\n", "RETR 2\r\n", "QUIT\r\n" };
	for (size_t i = 0; i < ARRAY_LEN(ask); i++) {
		login(w);
		ASK("DELE 1\r\n", "+OK");
		assert_int_equal(directory_account_set_quota(w->env.directory,
							     SPAN("ann@example.org"), 1u << 30, NULL),
				 0);
		IS(ask[i], "-ERR [AUTH] Account was changed, log in again\r\n");
		assert_true(p.closed);
		peer_close(&p);
	}
	assert_int_equal(messages(w), before);
}

static void test_retr(void **state)
{
	login(*state);
	char want[256];
	snprintf(want, sizeof(want),
		 "+OK %zu octets\r\nSubject: dots\r\n\r\n..\r\n...two\r\nplain\r\n..\r\n.\r\n",
		 strlen(dots));
	IS("RETR 1\r\n", want);
	snprintf(want, sizeof(want), "+OK %zu octets\r\nSubject: dots\r\n\r\n..\r\n...two\r\n.\r\n",
		 strlen(dots));
	IS("TOP 1 2\r\n", want);
	snprintf(want, sizeof(want), "+OK %zu octets\r\nSubject: dots\r\n\r\n.\r\n", strlen(dots));
	IS("TOP 1 0\r\n", want);
	ASK("RETR 3\r\n", "-ERR No such message");
	ASK("RETR 0\r\n", "-ERR");
	ASK("TOP 1\r\n", "-ERR");
	ASK("UIDL 1\r\n", "+OK 1 ");
	ASK("LIST\r\n", "+OK 2 messages\r\n1 35\r\n2 ");
	ASK("UIDL\r\nNOOP\r\n", "\r\n.\r\n+OK Nothing done\r\n");
	peer_close(&p);
}

/* A message larger than front takes at once: un-stuffed it is the stored one. */
static void test_retr_drains(void **state)
{
	login(*state);
	const char *got = peer_ask(&p, "RETR 2\r\nNOOP\r\n");
	assert_true(p.drains >= 2);
	assert_true(p.most_unsent <= SESS_OUT_HIGH + (512 << 10));
	size_t lines = 0, dotted = 0;
	span s = span_str(got);
	for (span line = span_cut(&s, '\n'); s.p; line = span_cut(&s, '\n')) {
		lines++;
		dotted += span_starts(line, SPAN("..this line starts with a dot"));
	}
	assert_true(dotted > 60000);
	assert_int_equal(lines, 1 + 2 + 2 * dotted + 2);
	assert_non_null(strstr(got, "this one does not\r\n.\r\n+OK Nothing done\r\n"));
	peer_close(&p);
}

static void test_dele(void **state)
{
	login(*state);
	ASK("DELE 1\r\n", "+OK");
	ASK("DELE 1\r\n", "-ERR No such message");
	ASK("STAT\r\n", "+OK 1 ");
	ASK("RSET\r\n", "+OK");
	ASK("STAT\r\n", "+OK 2 ");
	ASK("DELE 1\r\n", "+OK");
	peer_close(&p); /* dropped: nothing happens */
	assert_int_equal(messages(*state), 2);
	login(*state);
	ASK("DELE 1\r\nQUIT\r\n", "+OK Bye");
	assert_true(p.closed);
	peer_close(&p);
	assert_int_equal(messages(*state), 1);
}

static void test_framing(void **state)
{
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, true);
	p.chunk = 1;
	IS("QUIT\nUSER x\r\nCAPA x\r\n", "-ERR Lines end with CRLF\r\n-ERR Too many arguments\r\n");
	peer_close(&p);
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, true);
	char line[2000];
	memset(line, 'a', sizeof(line));
	line[sizeof(line) - 1] = 0;
	IS(line, "-ERR Line is too long\r\n");
	assert_true(p.closed);
	peer_close(&p);
	peer_open(&p, *state, &pop3_wire_ops, &pop3_sess_ops, true);
	IS("POST / HTTP/1.1\r\n", "");
	assert_true(p.closed);
	peer_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clear_text), cmocka_unit_test(test_auth),
		cmocka_unit_test(test_account_changed),
		cmocka_unit_test(test_retr),	   cmocka_unit_test(test_retr_drains),
		cmocka_unit_test(test_dele),	   cmocka_unit_test(test_framing),
	};
	return cmocka_run_group_tests(tests, setup, world_teardown);
}
