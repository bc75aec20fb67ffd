/* Checks of a whole account, for `check` and the crash suites: each query names rows that break an
 * invariant. */
#include <stdlib.h>
#include <sys/stat.h>
#include <errno.h>

#include "store/store_int.h"

static const struct {
	const char *what;
	const char *sql; /* first column: an id to report */
} rules[] = {
	{ "mailbox: counts differ from its messages",
	  "SELECT m.id FROM mailbox m LEFT JOIN (SELECT mbox, count(*) AS n, sum(flags & 1 = 0) AS "
	  "unseen,"
	  " sum(size) AS bytes FROM message GROUP BY mbox) c ON c.mbox = m.id"
	  " WHERE m.messages <> ifnull(c.n, 0) OR m.unseen <> ifnull(c.unseen, 0) OR m.bytes <> "
	  "ifnull(c.bytes, 0)" },
	{ "mailbox: a UID is not below UIDNEXT (S2)",
	  "SELECT DISTINCT m.id FROM mailbox m JOIN message g ON g.mbox = m.id WHERE g.uid >= "
	  "m.uidnext" },
	{ "mailbox: a message has a higher modseq (S3)",
	  "SELECT DISTINCT m.id FROM mailbox m JOIN message g ON g.mbox = m.id WHERE g.modseq > "
	  "m.modseq" },
	{ "mailbox: UIDVALIDITY below that of an earlier mailbox of its name (S2)",
	  "SELECT m.id FROM mailbox m JOIN retired r ON r.name = m.name WHERE m.uidvalidity < "
	  "r.uidvalidity" },
	{ "mailbox: an expunged UID is there again (S2)",
	  "SELECT e.mbox FROM expunged e JOIN message g ON g.mbox = e.mbox AND g.uid = e.uid" },
	{ "message: without a mailbox",
	  "SELECT uid FROM message WHERE mbox NOT IN (SELECT id FROM mailbox)" },
	{ "message: without a body",
	  "SELECT uid FROM message WHERE body NOT IN (SELECT id FROM body)" },
	{ "message: size differs from its body's",
	  "SELECT g.uid FROM message g JOIN body b ON b.id = g.body WHERE g.size <> b.size" },
	{ "body: references differ from its messages",
	  "SELECT b.id FROM body b LEFT JOIN shared s ON s.body = b.id"
	  " LEFT JOIN (SELECT body, count(*) AS n FROM message GROUP BY body) c ON c.body = b.id"
	  " WHERE ifnull(c.n, 0) <> ifnull(s.refs, 1)" },
	{ "body: a count of references without a body",
	  "SELECT body FROM shared WHERE body NOT IN (SELECT id FROM body)" },
	{ "body: data is not of its size",
	  "SELECT id FROM body WHERE NOT is_blob AND ifnull(length(data), -1) <> size" },
	{ "body: header beyond its size", "SELECT id FROM body WHERE header_size > size" },
};

static int check_rule(struct db_tx *tx, size_t i, struct buf *report)
{
	int r, n = 0;
	struct db_stmt *q = db_sql(tx, rules[i].sql);
	while ((r = db_step(q)) > 0) {
		buf_printf(report, "%s: %lld\n", rules[i].what, (long long)db_col_i64(q, 0));
		n++;
	}
	if (r == 0)
		return n;
	buf_printf(report, "%s: cannot be checked: %s\n", rules[i].what, err_text(r));
	return n + 1;
}

static int check_file(struct db_tx *tx, struct buf *report)
{
	int r, n = 0;
	struct db_stmt *q = db_sql(tx, "PRAGMA integrity_check");
	while ((r = db_step(q)) > 0) {
		span line = db_col_span(q, 0);
		if (span_eq_str(line, "ok"))
			continue;
		buf_put_str(report, "database: ");
		buf_put_escaped(report, line, 500);
		buf_put_char(report, '\n');
		n++;
	}
	if (r < 0)
		buf_printf(report, "database: %s\n", err_text(r));
	return n + (r < 0);
}

static int check_blobs(struct account *a, struct db_tx *tx, struct buf *report)
{
	int r, n = 0;
	struct db_stmt *q = db_sql(tx, "SELECT id, size FROM body WHERE is_blob");
	while ((r = db_step(q)) > 0) {
		struct stat st;
		_cleanup_(freep) char *path = body_blob_path(a, db_col_i64(q, 0));
		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == db_col_i64(q, 1))
			continue;
		buf_printf(report, "blob: missing or not of its size: %s\n", path);
		n++;
	}
	return n + (r < 0);
}

int store_check(struct account *a, struct buf *report)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(a->db, &tx);
	if (r) {
		buf_printf(report, "database: cannot be read: %s\n", err_text(r));
		return 1;
	}
	int n = check_file(tx, report);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		n += check_rule(tx, i, report);
	return n + check_blobs(a, tx, report);
}
