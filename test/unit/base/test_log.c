#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/log.h"

static int pipe_fds[2];
static char line[65536];

static const char *read_line(void)
{
	ssize_t n = read(pipe_fds[0], line, sizeof(line) - 1);
	assert_true(n > 0 && line[n - 1] == '\n');
	line[n - 1] = '\0';
	assert_null(strchr(line, '\n')); /* one line per event, whatever is in it */
	return line;
}

static int setup(void **state)
{
	return pipe(pipe_fds);
}

static void test_logfmt(void **state)
{
	struct id id;
	memset(&id, 0, sizeof(id));
	log_setup("core", LOG_INFO, LOG_LOGFMT, pipe_fds[1]);
	assert_false(log_enabled(LOG_DEBUG));
	log_event(LOG_DEBUG, "not.seen");
	log_event(LOG_INFO, "smtp.accepted", F_ID("id", &id), F_STR("from", "a@b"),
		  F_U64("size", 4096), F_I64("left", -3), F_SPAN("evil", SPAN("x\r\nfake=1 \"")),
		  F_STR("none", ""), F_ERR(ERR_FULL));
	const char *rest = strchr(read_line(), ' ');
	assert_string_equal(rest, " core info smtp.accepted id=00000000000000000000000000 from=a@b "
				  "size=4096 left=-3 evil=\"x\\r\\nfake=1 \\\"\" none=\"\" "
				  "error=\"disk full\"");
	log_event(LOG_ALARM, "plain");
	assert_string_equal(strchr(read_line(), ' '), " core alarm plain");
}

static void test_json(void **state)
{
	log_setup("front", LOG_DEBUG, LOG_JSON, pipe_fds[1]);
	log_event(LOG_DEBUG, "x",
		  F_SPAN("v", SPAN("a\"\\\n\x7f \xc3\xa4 \xf0\x9f\x93\xa7 \xff\xc3")),
		  F_U64("n", 1));
	const char *from = strstr(read_line(), ",\"role\"");
	assert_string_equal(from,
			    ",\"role\":\"front\",\"level\":\"debug\",\"event\":\"x\",\"v\":"
			    "\"a\\\"\\\\\\u000a\\u007f \\u00e4 \\ud83d\\udce7 \\\\xff\\\\xc3\""
			    ",\"n\":1}");
}

static void test_long(void **state)
{
	static char big[3000];
	struct log_field f[41] = { 0 };
	memset(big, '\n', sizeof(big));
	for (int i = 0; i < 40; i++)
		f[i] = F_SPAN("k", span_of(big, sizeof(big)));
	log_setup("core", LOG_INFO, LOG_JSON, pipe_fds[1]);
	log_fields(LOG_INFO, "big", f);
	const char *got = read_line();
	assert_true(strlen(got) < 16384 && strlen(got) > 8000);
	assert_string_equal(got + strlen(got) - 2, "\"}"); /* still well-formed */
}

static void test_errors(void **state)
{
	for (int e = 0; e >= ERR_INTERNAL; e--)
		assert_true(strlen(err_text(e)) > 0);
	assert_string_equal(err_text(-1000), "unknown error");
	assert_string_equal(err_text(5), "success");
	assert_int_equal(err_from_errno(ENOSPC), ERR_FULL);
	assert_int_equal(err_from_errno(ENOENT), ERR_NOENT);
	assert_int_equal(err_from_errno(EAGAIN), ERR_AGAIN);
	assert_int_equal(err_from_errno(0), 0);
	struct err_info info = { 0 };
	assert_int_equal(err_set(&info, ERR_IO, "a\nb %d", 5), ERR_IO);
	assert_string_equal(info.text, "a b 5");
	assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
}

#ifdef POSTRIDER_FAILPOINTS
static int passes_until_killed(const char *spec)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		setenv("POSTRIDER_FAILPOINT", spec, 1);
		failpoint_setup();
		FAILPOINT("other");
		FAILPOINT("here");
		FAILPOINT("here");
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_failpoints(void **state)
{
	assert_int_equal(passes_until_killed("here"), SIGKILL);
	assert_int_equal(passes_until_killed("here:2"), SIGKILL);
	assert_int_equal(passes_until_killed("here:3"), 0);
	assert_int_equal(passes_until_killed("elsewhere"), 0);
	assert_int_equal(passes_until_killed("random:1"), SIGKILL);
	assert_int_equal(passes_until_killed(""), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logfmt),	   cmocka_unit_test(test_json),
		cmocka_unit_test(test_long),	   cmocka_unit_test(test_errors),
#ifdef POSTRIDER_FAILPOINTS
		cmocka_unit_test(test_failpoints),
#endif
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
