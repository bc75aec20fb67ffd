#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "imap/imap.h"
#include "imap/session_int.h"
#include "imap/wire.h"

/* Commands against a real store. */

static struct peer a, b;

static void open_peer(struct peer *p, struct world *w)
{
	peer_open(p, w, &imap_wire_ops, &imap_sess_ops, true);
	struct imap_session *st =
		p->s.state; /* logging in is slow on purpose, and has its own test */
	memcpy(st->account_id, w->account, sizeof(st->account_id));
	st->state = IMAP_IN_AUTH;
	st->checked_at = clock_mono();
	p->wire->park(p->wire_state, &(struct wire_park){ .flags = IMAP_PARK_AUTHENTICATED });
}

#define ASK(p, text, want) peer_expect(p, text, want, __LINE__)
#define NOT(p, unwanted)   assert_null(strstr(buf_cstr(&(p)->in), unwanted))
#define ALSO(p, want)	   assert_non_null(strstr(buf_cstr(&(p)->in), want))

static const char plain[] = "From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nCc: <dan (odd "
			    "white space)@ example.org>\r\nSubject: Plum "
			    "=?utf-8?q?J=C3=A4m?=\r\n"
			    "Date: Tue, 3 Feb 2026 10:00:00 +0100\r\nMessage-ID: "
			    "<1@example.org>\r\n\r\nTwo jars.\r\n.Dot line\r\n";
static const char multi[] =
	"From: Ann <ann@example.org>\r\nSubject: Two parts\r\nMIME-Version: 1.0\r\n"
	"Content-Type: multipart/mixed; boundary=\"=b\"\r\n\r\n--=b\r\nContent-Type: text/plain; "
	"charset=utf-8\r\n"
	"Content-Transfer-Encoding: base64\r\n\r\nR3LDvMOfZSBhdXMgQmVybgo=\r\n--=b\r\n"
	"Content-Type: message/rfc822\r\n\r\nSubject: Inner\r\nTo: eve@example.org\r\n\r\ninner "
	"text\r\n--=b--\r\n";

static void append(struct peer *p, const char *mailbox, const char *text)
{
	_cleanup_(buf_donep) struct buf c = BUF_INIT(1 << 24);
	buf_printf(&c, "ap APPEND %s {%zu+}\r\n%s\r\n", mailbox, strlen(text), text);
	assert_non_null(strstr(peer_ask(p, buf_cstr(&c)), "ap OK [APPENDUID "));
}

/* A mailbox with N plain messages, open in both peers. */
static void fresh(struct world *w, const char *name, unsigned n)
{
	char line[128];
	open_peer(&a, w);
	open_peer(&b, w);
	snprintf(line, sizeof(line), "c CREATE %s\r\n", name);
	ASK(&a, line, "c OK");
	for (unsigned i = 0; i < n; i++)
		append(&a, name, plain);
	snprintf(line, sizeof(line), "s SELECT %s\r\n", name);
	ASK(&a, line, "s OK [READ-WRITE]");
	ASK(&b, line, "s OK [READ-WRITE]");
}

static void close_both(void)
{
	peer_close(&a);
	peer_close(&b);
}

static void test_login(void **state)
{
	peer_open(&a, *state, &imap_wire_ops, &imap_sess_ops, true);
	ASK(&a, "a LOGIN ann@example.org wrong\r\n", "a NO [AUTHENTICATIONFAILED]");
	ASK(&a, "b LOGIN ann@example.org \"correct horse\"\r\n", "b OK [CAPABILITY IMAP4rev1 ");
	ALSO(&a, " MOVE ");
	ASK(&a, "c LOGIN x y\r\n", "c BAD Already logged in");
	ASK(&a, "d LOGOUT\r\n", "* BYE");
	assert_true(a.closed);
	peer_close(&a);
	peer_open(&a, *state, &imap_wire_ops, &imap_sess_ops, true);
	/* "\0ann@example.org\0correct horse" */
	ASK(&a, "a AUTHENTICATE PLAIN\r\n", "+ ");
	ASK(&a, "AGFubkBleGFtcGxlLm9yZwBjb3JyZWN0IGhvcnNl\r\n", "a OK [CAPABILITY ");
	peer_close(&a);
}

static void test_clear_text(void **state)
{
	peer_open(&a, *state, &imap_wire_ops, &imap_sess_ops, false);
	ASK(&a, "a CAPABILITY\r\n", " STARTTLS LOGINDISABLED");
	ASK(&a, "a LOGIN ann@example.org x\r\n", "a NO [PRIVACYREQUIRED]");
	ASK(&a, "b STARTTLS\r\nc NOOP\r\n", "b OK Begin");
	assert_true(a.starttls);
	NOT(&a, "c OK");
	peer_close(&a);
}

static void test_select(void **state)
{
	fresh(*state, "sel", 2);
	ASK(&a, "s EXAMINE sel\r\n", "* 2 EXISTS\r\n");
	ALSO(&a, "[UNSEEN 1]");
	ALSO(&a, "[UIDNEXT 3]");
	ALSO(&a, "[PERMANENTFLAGS ()]");
	ALSO(&a, "s OK [READ-ONLY]");
	ASK(&a, "s STORE 1 +FLAGS (\\Seen)\r\n", "s NO [READ-ONLY]");
	ASK(&a, "f FETCH 1 BODY[]\r\n", "f OK");
	ASK(&a, "f FETCH 1 FLAGS\r\n", "FLAGS ()");
	ASK(&a, "s SELECT nowhere\r\n", "s NO [NONEXISTENT]");
	ASK(&a, "f FETCH 1 FLAGS\r\n", "f BAD No mailbox");
	ASK(&a, "s STATUS sel (MESSAGES UIDNEXT UNSEEN)\r\n",
	    "* STATUS sel (MESSAGES 2 UIDNEXT 3 UNSEEN 2)");
	close_both();
}

static void test_fetch(void **state)
{
	fresh(*state, "fet", 1);
	append(&a, "fet", multi);
	ASK(&a, "f FETCH 1 (FLAGS RFC822.SIZE ENVELOPE)\r\n",
	    "ENVELOPE (\"Tue, 3 Feb 2026 10:00:00 +0100\" ");
	ASK(&a, "f FETCH 1 BODY.PEEK[TEXT]\r\n",
	    "* 1 FETCH (BODY[TEXT] {22}\r\nTwo jars.\r\n.Dot line\r\n)\r\nf OK");
	ASK(&a, "f FETCH 1 BODY.PEEK[HEADER.FIELDS (message-id x)]\r\n",
	    "BODY[HEADER.FIELDS (message-id x)] {31}\r\nMessage-ID: <1@example.org>\r\n\r\n)");
	ASK(&a, "f FETCH 1 BODY.PEEK[]<2.4>\r\n", "BODY[]<2> {4}\r\nom: )");
	ASK(&a, "f FETCH 1 BODY.PEEK[]<9999.4>\r\n", "BODY[]<9999> {0}\r\n)");
	ASK(&a,
	    "f UID FETCH 2 (BODY.PEEK[1] BODY.PEEK[2.HEADER] BODY.PEEK[2.TEXT] BODY.PEEK[3])\r\n",
	    "* 2 FETCH (UID 2 BODY[1] {24}\r\nR3LDvMOfZSBhdXMgQmVybgo= BODY[2.HEADER] "
	    "{39}\r\nSubject: Inner\r\nTo: eve@example.org\r\n\r\n"
	    " BODY[2.TEXT] {10}\r\ninner text BODY[3] NIL)");
	ASK(&a, "f FETCH 2 BODY.PEEK[1.MIME]\r\n", "BODY[1.MIME] {78}\r\nContent-Type: text/plain");
	ASK(&a, "f FETCH 2 BODYSTRUCTURE\r\n", "(\"message\" \"rfc822\" ");
	ASK(&a, "f FETCH 1 FLAGS\r\n", "FLAGS ()");
	ASK(&a, "f FETCH 1 BODY[HEADER]\r\n", " FLAGS (\\Seen))");
	ASK(&b, "n NOOP\r\n", "* 1 FETCH (UID 1 FLAGS (\\Seen))");
	ASK(&a, "f FETCH 3 FLAGS\r\n", "f BAD No such message number");
	ASK(&a, "f UID FETCH 99 FLAGS\r\n", "f OK");
	ASK(&a, "f FETCH 1:* UID\r\n", "* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\n");
	close_both();
}

static void test_fetch_drains(void **state)
{
	fresh(*state, "big", 0);
	_cleanup_(buf_donep) struct buf m = BUF_INIT(8 << 20);
	buf_put_str(&m, "Subject: big\r\n\r\n");
	while (m.n < 3 << 20)
		buf_printf(&m, "line %zu of a message that does not fit\r\n", m.n);
	append(&a, "big", buf_cstr(&m));
	append(&a, "big", plain);
	a.drains = 0;
	a.most_unsent = 0;
	const char *got = peer_ask(&a, "f FETCH 1:2 (BODY.PEEK[] UID)\r\n");
	assert_true(a.drains >= 2);
	assert_true(a.most_unsent <= SESS_OUT_HIGH + (512 << 10));
	_cleanup_(buf_donep) struct buf want = BUF_INIT(8 << 20);
	buf_printf(&want,
		   "* 1 FETCH (BODY[] {%zu}\r\n%s UID 1)\r\n* 2 FETCH (BODY[] {%zu}\r\n%s UID "
		   "2)\r\nf OK FETCH completed\r\n",
		   m.n, buf_cstr(&m), strlen(plain), plain);
	assert_string_equal(got, buf_cstr(&want));
	close_both();
}

static void test_store(void **state)
{
	fresh(*state, "sto", 3);
	ASK(&a, "s STORE 1:2 +FLAGS (\\Flagged $Work)\r\n",
	    "* 1 FETCH (FLAGS (\\Flagged $Work))\r\n* 2 FETCH (FLAGS (\\Flagged $Work))\r\ns OK");
	ASK(&b, "n NOOP\r\n", "* 2 FETCH (UID 2 FLAGS (\\Flagged $Work))");
	ASK(&a, "s UID STORE 2 FLAGS.SILENT (\\Answered)\r\n", "s OK");
	NOT(&a, "FETCH");
	ASK(&a, "n NOOP\r\n", "n OK");
	NOT(&a, "FETCH");
	ASK(&b, "n NOOP\r\n", "* 2 FETCH (UID 2 FLAGS (\\Answered))");
	ASK(&a, "s STORE 1 -FLAGS $Work\r\n", "* 1 FETCH (FLAGS (\\Flagged))");
	ASK(&a, "s STORE 4 FLAGS ()\r\n", "s BAD");
	close_both();
}

static void test_expunge(void **state)
{
	fresh(*state, "exp", 5);
	ASK(&a, "s STORE 2,4 +FLAGS.SILENT (\\Deleted)\r\n", "s OK");
	ASK(&a, "e UID EXPUNGE 1:2\r\n", "* 2 EXPUNGE\r\ne OK");
	ASK(&a, "e EXPUNGE\r\n", "* 3 EXPUNGE\r\ne OK");
	/* message numbers of b stand still until a command allows EXPUNGE */
	ASK(&b, "f FETCH 4 UID\r\n", "* 4 FETCH (UID 4)\r\n");
	NOT(&b, "EXPUNGE");
	ASK(&b, "f FETCH 4 RFC822.SIZE\r\n", "f NO [EXPUNGEISSUED]");
	NOT(&b, " EXPUNGE\r\n");
	ASK(&b, "f SEARCH ALL\r\n", "* SEARCH 1 ");
	NOT(&b, "EXPUNGE");
	append(&a, "exp", plain);
	ASK(&b, "n NOOP\r\n", "* 4 EXPUNGE\r\n* 2 EXPUNGE\r\n* 4 EXISTS\r\n");
	ASK(&b, "f FETCH 4 UID\r\n", "* 4 FETCH (UID 6)");
	ASK(&b, "s STORE 1 +FLAGS.SILENT (\\Deleted)\r\n", "s OK");
	ASK(&b, "u UNSELECT\r\n", "u OK");
	ASK(&b, "s SELECT exp\r\n", "s OK");
	ASK(&b, "c CLOSE\r\n", "c OK");
	NOT(&b, "EXPUNGE");
	ASK(&a, "n NOOP\r\n", "* 1 EXPUNGE");
	close_both();
}

static void test_copy_move(void **state)
{
	fresh(*state, "cpy", 3);
	ASK(&a, "c COPY 1 dest\r\n", "c NO [TRYCREATE]");
	ASK(&a, "c CREATE dest\r\n", "c OK");
	ASK(&a, "c UID COPY 1,3 dest\r\n", "c OK [COPYUID ");
	ALSO(&a, " 1,3 1:2] COPY completed");
	ASK(&a, "m MOVE 2:3 dest\r\n", " 2:3 3:4] Moved\r\n* 3 EXPUNGE\r\n* 2 EXPUNGE\r\nm OK");
	ASK(&a, "s STATUS dest (MESSAGES)\r\n", "(MESSAGES 4)");
	ASK(&b, "n NOOP\r\n", "* 3 EXPUNGE\r\n* 2 EXPUNGE");
	ASK(&a, "c UID COPY 77 dest\r\n", "c OK COPY completed, no message");
	close_both();
}

static void test_search(void **state)
{
	fresh(*state, "sea", 1);
	append(&a, "sea", multi);
	ASK(&a, "s STORE 2 +FLAGS.SILENT (\\Seen)\r\n", "s OK");
	static const struct {
		const char *key, *want;
	} rows[] = {
		{ "ALL", "* SEARCH 1 2\r\n" },
		{ "UNSEEN", "* SEARCH 1\r\n" },
		{ "NOT UNSEEN", "* SEARCH 2\r\n" },
		{ "SUBJECT \"pLUM j\xc3\x84m\"", "* SEARCH 1\r\n" },
		{ "FROM ann", "* SEARCH 1 2\r\n" },
		{ "CC dan@example.org", "* SEARCH 1\r\n" },
		{ "TO bob", "* SEARCH 1\r\n" },
		{ "HEADER Message-ID \"\"", "* SEARCH 1\r\n" },
		{ "CHARSET UTF-8 BODY {7+}\r\ngr\xc3\xbc\xc3\x9f"
		  "e",
		  "* SEARCH 2\r\n" },
		{ "BODY eve@", "* SEARCH 2\r\n" },
		{ "TEXT \"two jars\"", "* SEARCH 1\r\n" },
		{ "BODY nowhere", "* SEARCH\r\n" },
		{ "SENTON 3-Feb-2026", "* SEARCH 1\r\n" },
		{ "SENTSINCE 4-Feb-2026", "* SEARCH\r\n" },
		{ "SINCE 1-Jan-2020", "* SEARCH 1 2\r\n" },
		{ "BEFORE 1-Jan-2020", "* SEARCH\r\n" },
		{ "LARGER 10 SMALLER 300", "* SEARCH 1\r\n" },
		{ "OR TO bob SUBJECT parts", "* SEARCH 1 2\r\n" },
		{ "2:* UID 1:2", "* SEARCH 2\r\n" },
		{ "KEYWORD $None", "* SEARCH\r\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char line[160];
		snprintf(line, sizeof(line), "s SEARCH %s\r\n", rows[i].key);
		ASK(&a, line, rows[i].want);
	}
	ASK(&a, "s UID SEARCH 2\r\n", "* SEARCH 2\r\n");
	ASK(&a, "s SEARCH CHARSET KOI8-R ALL\r\n", "s NO [BADCHARSET");
	ASK(&a, "s SEARCH 9\r\n", "s BAD");
	close_both();
}

static void test_idle(void **state)
{
	fresh(*state, "idl", 1);
	ASK(&b, "i IDLE\r\n", "+ idling");
	assert_int_equal(b.park.mode, SESS_MODE_RAW);
	append(&a, "idl", plain);
	buf_reset(&b.in);
	assert_true(b.woken);
	peer_wakeups(&b);
	assert_string_equal(buf_cstr(&b.in), "* 2 EXISTS\r\n* 1 RECENT\r\n");
	ASK(&a, "s STORE 1 +FLAGS.SILENT (\\Seen)\r\n", "s OK");
	buf_reset(&b.in);
	peer_wakeups(&b);
	ALSO(&b, "* 1 FETCH (UID 1 FLAGS (\\Seen))");
	ASK(&b, "DONE\r\n", "i OK");
	b.woken = false;
	append(&a, "idl", plain);
	assert_false(b.woken);
	ASK(&b, "i IDLE\r\nnonsense\r\n", "i BAD");
	ASK(&b, "n NOOP\r\n", "n OK");
	close_both();
}

static void test_append(void **state)
{
	struct world *w = *state;
	fresh(w, "app", 0);
	ASK(&a, "a APPEND nowhere {300000}\r\n", "a NO [TRYCREATE]");
	ASK(&a, "a APPEND app {99999999}\r\n", "a NO [TOOBIG]");
	ASK(&a, "a APPEND app (\\Draft $Mine) \"01-Feb-2026 03:04:05 +0000\" {3}\r\n", "+ OK");
	ASK(&a, "a\r\n\r\n", "a OK [APPENDUID ");
	ALSO(&a, "* 1 EXISTS");
	ASK(&a, "f FETCH 1 (FLAGS INTERNALDATE)\r\n",
	    "FLAGS (\\Draft $Mine \\Recent) INTERNALDATE \" 1-Feb-2026 03:04:05 +0000\"");
	_cleanup_(buf_donep) struct buf m = BUF_INIT(1 << 20);
	buf_put_str(&m, "a APPEND app {300000}\r\n");
	ASK(&a, buf_cstr(&m), "+ OK");
	buf_reset(&m);
	buf_put_str(&m, "Subject: x\r\n\r\n");
	while (m.n < 300000)
		buf_put_char(&m, 'y');
	buf_put_str(&m, "\r\n");
	ASK(&a, buf_cstr(&m), "a OK [APPENDUID ");
	ASK(&a, "f FETCH 2 RFC822.SIZE\r\n", "RFC822.SIZE 300000");
	m.p[200000] = 0;
	ASK(&a, "a APPEND app {300000}\r\n", "+ OK");
	buf_reset(&a.in);
	peer_send(&a, buf_span(&m));
	ALSO(&a, "a NO [CANNOT]");
	ASK(&a, "a APPEND app {3+}\r\nabc garbage\r\n", "a BAD");
	ASK(&a, "n NOOP\r\n", "n OK");
	close_both();
}

static void test_mailboxes(void **state)
{
	open_peer(&a, *state);
	ASK(&a, "c CREATE tree/leaf/\r\n", "c OK");
	ASK(&a, "c CREATE tree/leaf\r\n", "c NO [ALREADYEXISTS]");
	ASK(&a, "c CREATE a/../b\r\n", "c NO [CANNOT]");
	ASK(&a, "c CREATE &Jjo-\r\n", "c OK");
	ASK(&a, "l LIST \"\" &Jjo-\r\n", "* LIST (\\HasNoChildren) \"/\" &Jjo-\r\n");
	ASK(&a, "l LIST \"\" tree%\r\n", "\"/\" tree\r\n");
	ASK(&a, "l LIST tree/ *\r\n", "\"/\" tree/leaf\r\n");
	ASK(&a, "l LIST \"\" \"\"\r\n", "* LIST (\\Noselect) \"/\" \"\"");
	ASK(&a, "l LIST (SPECIAL-USE) \"\" *\r\n", "\\Sent");
	NOT(&a, "tree");
	ASK(&a, "l LIST \"\" *%*%*%*%*%*%*%*%q\r\n", "l OK");
	ASK(&a, "u SUBSCRIBE tree/leaf\r\n", "u OK");
	ASK(&a, "l LSUB \"\" %\r\n", "* LSUB (\\Noselect \\HasChildren) \"/\" tree\r\n");
	ASK(&a, "r RENAME tree/leaf tree/twig\r\n", "r OK");
	ASK(&a, "d DELETE tree/leaf\r\n", "d NO [NONEXISTENT]");
	ASK(&a, "d DELETE tree/twig\r\n", "d OK");
	ASK(&a, "d DELETE INBOX\r\n", "d NO [CANNOT]");
	ASK(&a, "n NAMESPACE\r\n", "* NAMESPACE ((\"\" \"/\")) NIL NIL");
	ASK(&a, "s SELECT &!!-\r\n", "s NO [CANNOT]");
	peer_close(&a);
}

static void test_selected_mailbox_is_deleted(void **state)
{
	fresh(*state, "gone", 1);
	ASK(&a, "d DELETE gone\r\n", "d OK");
	NOT(&a, "BYE");
	ASK(&a, "u UNSELECT\r\n", "u BAD No mailbox is selected");
	ASK(&b, "n NOOP\r\n", "* BYE Selected mailbox was deleted");
	assert_true(b.closed);
	close_both();
}

/* A password change or a suspension ends the sessions of before. */
static void test_old_generation(void **state)
{
	struct world *w = *state;
	struct imap_session *st;
	struct directory_account acc;
	struct arena mem;
	open_peer(&a, w);
	st = a.s.state;
	arena_init(&mem);
	assert_int_equal(
		directory_account_by_id(w->env.directory, span_str(w->account), &mem, &acc), 0);
	st->generation = acc.generation;
	arena_done(&mem);
	st->checked_at -= 60 * USEC_SEC;
	ASK(&a, "n NOOP\r\n", "n OK");
	st->generation++;
	ASK(&a, "n NOOP\r\n", "n OK"); /* not asked at every command */
	st->checked_at -= 60 * USEC_SEC;
	ASK(&a, "n NOOP\r\n", "* BYE [EXPIRED]");
	assert_true(a.closed);
	peer_close(&a);
}

/* Bytes that crashed a job are never parsed again: the message is one opaque part. */
static void test_poison(void **state)
{
	struct world *w = *state;
	static uint8_t page[POISON_PAGE];
	int slot;
	struct poison *mine = w->env.poison;
	struct poison *crashed = poison_open(page);
	assert_false(poison_enter(crashed, POISON_IMAP, span_str(multi), &slot));
	poison_close(crashed); /* without poison_leave: the job died */
	w->env.poison = poison_open(page);
	fresh(w, "poi", 0);
	append(&a, "poi", multi);
	ASK(&a, "f FETCH 1 (BODY.PEEK[2] BODY.PEEK[2.MIME])\r\n", "(BODY[2] NIL BODY[2.MIME] NIL)");
	ASK(&a, "f FETCH 1 BODY.PEEK[1]\r\n", "BODY[1] {");
	ALSO(&a, "--=b\r\n");
	ASK(&a, "s SEARCH BODY inner\r\n", "* SEARCH\r\n");
	close_both();
	poison_close(w->env.poison);
	w->env.poison = mine;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_clear_text),
		cmocka_unit_test(test_select),
		cmocka_unit_test(test_fetch),
		cmocka_unit_test(test_fetch_drains),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_expunge),
		cmocka_unit_test(test_copy_move),
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_mailboxes),
		cmocka_unit_test(test_selected_mailbox_is_deleted),
		cmocka_unit_test(test_old_generation),
		cmocka_unit_test(test_poison),
	};
	return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
