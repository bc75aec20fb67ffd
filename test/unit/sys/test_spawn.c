#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "sys/channel.h"
#include "sys/sock.h"
#include "sys/spawn.h"

/* ------------------------------------------------------------------ the spawned side */

/* Reports what a role finds: how many fds beyond the control fd are open. */
static int role_main(const char *role)
{
	uint64_t surplus = 0;
	for (int fd = 4; fd < 1024; fd++)
		surplus += fcntl(fd, F_GETFD) >= 0;
	return channel_send_fd(3, 1, surplus, span_str(role), -1) == 0 ? 0 : 1;
}

static void test_role(void **state)
{
	int fds[2], stray[2];
	struct err_info info = { 0 };
	struct buf b = BUF_INIT(100);
	uint16_t type;
	uint64_t surplus;
	assert_int_equal(channel_pair(fds), 0);
	assert_int_equal(pipe(stray), 0); /* not close-on-exec */
	pid_t child = spawn_role("core", fds[1], &info);
	assert_true(child > 0);
	close(fds[1]);
	assert_int_equal(channel_recv_fd(fds[0], 5 * USEC_SEC, &type, &surplus, &b, NULL), 0);
	assert_string_equal(buf_cstr(&b), "core");
	assert_int_equal(surplus, 0);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(fds[0]);
	close(stray[0]);
	close(stray[1]);
	buf_done(&b);
}

static void test_drop(void **state)
{
	struct err_info info = { 0 };
	if (geteuid() != 0) {
		assert_int_equal(spawn_drop("no-such-user-here", &info), 0);
		return;
	}
	assert_int_equal(spawn_drop("no-such-user-here", &info), ERR_NOENT);
	assert_non_null(strstr(info.text, "no-such-user-here"));
	pid_t child = fork();
	if (child == 0)
		_exit(spawn_drop("nobody", NULL) == 0 && geteuid() != 0 && setuid(0) != 0 ? 0 : 1);
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
}

/* ------------------------------------------------------------------ the sandbox, in a child each
 */

static char dir[64];

static void *thread(void *arg)
{
	*(int *)arg = 1;
	pthread_exit(NULL);
}

#define CHECK(x)                                                                         \
	do {                                                                             \
		if (!(x)) {                                                              \
			fprintf(stderr, "%d: %s (%s)\n", __LINE__, #x, strerror(errno)); \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

static void check_common(void)
{
	int ran = 0;
	pthread_t t;
	CHECK(open("/etc/passwd", O_RDONLY) < 0);
	CHECK(fork() < 0);
	CHECK(kill(getppid(), 0) < 0);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	      MAP_FAILED);
	CHECK(pthread_create(&t, NULL, thread, &ran) == 0 && pthread_join(t, NULL) == 0 && ran);
	free(malloc(10 << 20));
}

static void check_front(void)
{
	check_common();
	CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0);
}

static void check_out(void)
{
	check_common();
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_any a = { .in = { .sin_family = AF_INET, .sin_port = htons(1) } };
	a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(fd >= 0);
	CHECK(connect(fd, &a.sa, sock_len(&a)) == 0 || errno == ECONNREFUSED);
	/* The admin socket is none of its business, whoever it runs as. */
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && socket(AF_NETLINK, SOCK_RAW, 0) < 0);
}

static void check_keys(void)
{
	char path[128], other[128];
	check_common();
	snprintf(path, sizeof(path), "%s/new", dir);
	snprintf(other, sizeof(other), "%s/key", dir);
	CHECK(open("/tmp/postrider-outside", O_CREAT | O_RDWR, 0600) < 0);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "k", 1) == 1 && fsync(fd) == 0);
	CHECK(rename(path, other) == 0 && unlink(other) == 0);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0);
}

static void confine(enum sandbox_profile profile, void (*check)(void))
{
	pid_t child = fork();
	int status;
	if (child == 0) {
		struct err_info info = { 0 };
		int r = sandbox_enter(profile, profile == SANDBOX_KEYS ? dir : NULL, &info);
		if (r == ERR_UNSUPPORTED) {
			fprintf(stderr, "sandbox: %s\n", info.text);
			_exit(strstr(info.text, "sanitizer")
				      ? 0
				      : 77); /* as documented, or no kernel support */
		}
		CHECK(r == 0);
		check();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_front(void **state)
{
	confine(SANDBOX_FRONT, check_front);
}

static void test_out(void **state)
{
	confine(SANDBOX_OUT, check_out);
}

static void test_keys(void **state)
{
	strcpy(dir, "/tmp/postrider-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	confine(SANDBOX_KEYS, check_keys);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "-x") == 0)
		return role_main(argv[2]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_role),  cmocka_unit_test(test_drop),
		cmocka_unit_test(test_front), cmocka_unit_test(test_out),
		cmocka_unit_test(test_keys),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
