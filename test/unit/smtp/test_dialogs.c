/* Dialogues that others wrote for their servers: ours must answer in the same class (2xx, 4xx,
 * 5xx). POSTRIDER_TESTDATA names the folder of such data (default ../shared/data); without it
 * nothing is tested, and that is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "harness.h"

#define FOLDER "smtp-dialogs/chasquid/t-12-minor_dialogs"

/* Not among them, and why: auth_* and bad_data (their accounts, and their refusal of a message
 * without a proper header, are decided behind core), *_too_big (written as Python expressions),
 * wrong_proto (they say 502 and close, we say 421). */
static const char *const files[] = { "auth_not_tls",  "bad_data_dot",	"bad_data_dot_2",
				     "bad_mail_from", "bad_rcpt_to",	"empty_helo",
				     "helo",	      "line_too_long",	"data_dot_stuffing",
				     "sendmail",      "unknown_command" };

static struct harness h;
static bool is_open;
static size_t seen;

static void hang_up(void)
{
	if (is_open)
		harness_done(&h);
	is_open = false;
}

/* The class of the last reply since the last look; 0: none. */
static char last_class(void)
{
	span rest = span_from(buf_span(&h.transcript), seen), line;
	char class = 0;

	while (rest.n) {
		line = span_cut(&rest, '\n');
		if (span_starts(line, SPAN("S: ")) && line.n > 3)
			class = line.p[3];
	}
	seen = h.transcript.n;
	return class;
}

/* Their addresses may stand without brackets; ours may not. */
static void send_line(span text)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(65536);

	if (span_starts(text, SPAN("RCPT TO: ")) && span_find(text, '<') == SPAN_NPOS)
		buf_printf(&b, "RCPT TO:<%.*s>", SPAN_FMT(span_from(text, 9)));
	else
		buf_put_span(&b, text);
	buf_put_str(&b, "\r\n");
	harness_send(&h, buf_span(&b));
}

/* 'text with \r and \n' */
static void send_quoted(span text)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(65536);

	for (size_t i = 1; i + 1 < text.n; i++) {
		if (text.p[i] != '\\')
			buf_put_char(&b, text.p[i]);
		else
			buf_put_char(&b, text.p[++i] == 'r' ? '\r' : '\n');
	}
	harness_send(&h, buf_span(&b));
}

/* True for a line that expects something. */
static bool expects(span line, char *ret_class)
{
	static const char *const marks[] = { "c <~ ", "c <- ", "c <... " };

	for (size_t i = 0; i < ARRAY_LEN(marks); i++)
		if (span_starts(line, span_str(marks[i])) && line.n > strlen(marks[i])) {
			*ret_class = line.p[strlen(marks[i])];
			return true;
		}
	return false;
}

static unsigned replay(const char *name, span script)
{
	unsigned compared = 0;
	char class;

	while (script.n) {
		span line = span_cut(&script, '\n');

		if (span_starts(line, SPAN("c tcp_connect"))) {
			hang_up();
			harness_open(&h, &smtp_wire_ops, NULL, false);
			is_open = true;
			seen = 0;
		} else if (span_starts(line, SPAN("c ->"))) {
			send_line(span_from(line, 5));
		} else if (span_starts(line, SPAN("c ~> '"))) {
			send_quoted(span_from(line, 5));
		} else if (expects(line, &class)) {
			char got = last_class();

			if (got != class)
				fail_msg("%s: wanted \"%.*s\" in:\n%s", name, SPAN_FMT(line),
					 buf_cstr(&h.transcript));
			compared++;
		}
	}
	hang_up();
	return compared;
}

static void test_dialogs(void **state)
{
	const char *env = getenv("POSTRIDER_TESTDATA"),
		   *data = env ? env : SOURCE_ROOT "/../shared/data";
	unsigned compared = 0, missing = 0;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[4096], text[65536];
		size_t n;
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s/%s.cmy", data, FOLDER, files[i]);
		f = fopen(path, "r");
		if (!f) {
			missing++;
			continue;
		}
		n = fread(text, 1, sizeof(text), f);
		fclose(f);
		compared += replay(files[i], span_of(text, n));
	}
	printf("%u answers compared, %u of %zu dialogues skipped\n", compared, missing,
	       ARRAY_LEN(files));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_dialogs) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
