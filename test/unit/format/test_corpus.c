/* Real and torture mail that others collected, where it is at hand: POSTRIDER_TESTDATA names the
 * folder.  Nothing may crash, and what is written must be what IMAP's grammar allows. */
#include "support.h"

#include <dirent.h>
#include <ftw.h>

#include "format/address.h"
#include "format/check.h"
#include "format/header.h"
#include "format/imapfmt.h"
#include "imap_grammar.h"

#define FILE_MAX (8 << 20)

static char folder[4096];
static size_t files, bad;

/* False if the file is not there or too large. */
static bool read_file(const char *path, struct buf *b)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return false;
	for (size_t n; (n = fread(buf_reserve(b, 65536), 1, 65536, f)) > 0;) {
		buf_added(b, n);
		if (b->n >= FILE_MAX)
			break;
	}
	fclose(f);
	return b->n < FILE_MAX;
}

static bool has_folder(const char *name)
{
	const char *data = getenv("POSTRIDER_TESTDATA");
	snprintf(folder, sizeof(folder), "%s/%s", data ? data : SOURCE_ROOT "/../shared/data",
		 name);
	DIR *d = opendir(folder);
	if (!d) {
		print_message("skipped: 0 files, no %s\n", name);
		return false;
	}
	closedir(d);
	return true;
}

static void check_message(span m)
{
	struct arena mem;
	arena_init(&mem);
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 << 20);
	struct message_facts facts;
	message_check(m, &facts);
	struct mime_part *root = mime_parse(m, &mem);
	assert_int_equal(root->end, m.n);
	for (int extensible = 0; extensible < 2; extensible++) {
		buf_reset(&b);
		assert_int_equal(imapfmt_bodystructure(&b, m, root, extensible), 0);
		assert_ptr_equal(imap_grammar_body(b.p, b.p + b.n, extensible), b.p + b.n);
	}
	buf_reset(&b);
	assert_int_equal(imapfmt_envelope(&b, m, &mem), 0);
	assert_ptr_equal(imap_grammar_envelope(b.p, b.p + b.n), b.p + b.n);
	struct header_field f;
	if (header_find(m, "Subject", 0, &f))
		assert_true(utf8_valid(header_decode_words(f.value, 10000, &mem)));
	arena_done(&mem);
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(FILE_MAX + 65536);
	if (type == FTW_F && read_file(path, &b)) {
		check_message(buf_span(&b));
		files++;
	}
	return 0;
}

static void test_messages(void **state)
{
	if (!has_folder("mime"))
		skip();
	nftw(folder, visit, 16, FTW_PHYS);
	print_message("messages: %zu files\n", files);
	assert_true(files > 0);
}

/* The text of <TAG> in ITEM with the entities of the data resolved. */
static void element(span item, const char *tag, struct buf *b)
{
	char open[32], close[32];
	snprintf(open, sizeof(open), "<%s>", tag);
	snprintf(close, sizeof(close), "</%s>", tag);
	buf_reset(b);
	size_t from = span_find_span(item, span_str(open)),
	       to = span_find_span(item, span_str(close));
	if (from == SPAN_NPOS || to == SPAN_NPOS)
		return;
	from += strlen(open);
	span text = span_sub(item, from, to - from);
	static const char *const entities[][2] = {
		{ "&lt;", "<" }, { "&gt;", ">" }, { "&amp;", "&" }, { "&quot;", "\"" }
	};
	while (text.n) {
		size_t n = 1;
		if (span_starts(text, SPAN("&#x"))) {
			n = span_find(text, ';') + 1;
			unsigned long c = strtoul(text.p + 3, NULL, 16);
			/* U+2400 and up are pictures of control characters there */
			buf_put_char(b, (char)(c >= 0x2400 ? c - 0x2400 : c));
		} else {
			size_t i = 0;
			while (i < ARRAY_LEN(entities) &&
			       !span_starts(text, span_str(entities[i][0])))
				i++;
			bool found = i < ARRAY_LEN(entities);
			n = found ? strlen(entities[i][0]) : 1;
			buf_put(b, found ? entities[i][1] : text.p, 1);
		}
		text = span_from(text, n);
	}
}

static void check_address(span item)
{
	_cleanup_(buf_donep) struct buf address = BUF_INIT(10000), category = BUF_INIT(1000),
					diagnosis = BUF_INIT(1000);
	element(item, "address", &address);
	element(item, "category", &category);
	element(item, "diagnosis", &diagnosis);
	struct arena mem;
	arena_init(&mem);
	struct address a;
	span text = buf_span(&address);
	bool ok = address_parse(text, 0, &mem, &a) == ADDRESS_OK;
	span c = buf_span(&category), d = buf_span(&diagnosis);
	bool valid = span_eq_str(c, "ISEMAIL_VALID_CATEGORY") ||
		     span_eq_str(c, "ISEMAIL_DNSWARN") || span_eq_str(c, "ISEMAIL_RFC5321");
	bool wrong = span_eq_str(c, "ISEMAIL_ERR") || span_eq_str(c, "ISEMAIL_RFC5322") ||
		     span_eq_str(c, "ISEMAIL_CFWS");
	if ((valid && !ok) || (wrong && ok)) {
		print_message("%s: <%.*s> %.*s\n", ok ? "accepted" : "refused", SPAN_FMT(text),
			      SPAN_FMT(d));
		bad++;
	}
	if (ok) { /* what is written reads as the same */
		struct address again;
		span canonical = address_text(&a, &mem);
		assert_int_equal(address_parse(canonical, 0, &mem, &again), ADDRESS_OK);
		assert_true(span_eq(again.local, a.local) && span_eq(again.domain, a.domain));
	}
	struct mailbox_address list[8];
	address_list_parse(text, &mem, list, 8, NULL);
	arena_done(&mem);
	files++;
}

static void test_addresses(void **state)
{
	if (!has_folder("addresses/isemail"))
		skip();
	static const char *const names[] = { "tests.xml", "tests-original.xml" };
	files = bad = 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[5000];
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		_cleanup_(buf_donep) struct buf b = BUF_INIT(FILE_MAX + 65536);
		if (!read_file(path, &b))
			continue;
		span rest = buf_span(&b);
		for (size_t at; (at = span_find_span(rest, SPAN("<test "))) != SPAN_NPOS;) {
			span item = span_from(rest, at);
			size_t end = span_find_span(item, SPAN("</test>"));
			item = span_sub(item, 0, end);
			rest = span_from(rest, at + item.n);
			check_address(item);
		}
	}
	print_message("addresses: %zu, judged otherwise: %zu\n", files, bad);
	assert_true(files > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
