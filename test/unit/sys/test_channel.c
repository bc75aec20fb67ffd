#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/channel.h"

enum { SENDERS = 3, EACH = 3000, EXTRA = 17 };

static struct loop *loop;
static struct channel *sender, *receiver;
static size_t got, closed_calls, bytes;
static uint64_t next_id[SENDERS];
static char big[CHANNEL_MAX];

static void on_closed(void *arg, struct channel *c)
{
	closed_calls++;
	loop_stop(loop);
}

static void on_ordered(void *arg, struct channel *c, struct channel_msg *m)
{
	assert_true(m->type < SENDERS);
	assert_int_equal(m->id, next_id[m->type]); /* in order within a thread */
	next_id[m->type]++;
	assert_int_equal(m->payload.n, m->id * 7 % 3000);
	if (++got == SENDERS * EACH)
		loop_stop(loop);
}

static void *send_many(void *arg)
{
	uint16_t type = (uint16_t)(uintptr_t)arg;
	for (uint64_t i = 0; i < EACH; i++) {
		if (i % 10 == 0)
			channel_cork(sender);
		assert_int_equal(channel_send(sender, type, i, span_of(big, i * 7 % 3000), -1), 0);
		if (i % 10 == 4)
			channel_uncork(sender);
	}
	return NULL;
}

static void open_pair(channel_fn *fn)
{
	int fds[2];
	assert_int_equal(channel_pair(fds), 0);
	loop = loop_new();
	sender = channel_open(loop, fds[0], fn, on_closed, NULL);
	receiver = channel_open(loop, fds[1], fn, on_closed, NULL);
	got = closed_calls = bytes = 0;
}

static void close_pair(void)
{
	channel_close(sender);
	channel_close(receiver);
	loop_free(loop);
}

static void test_threads(void **state)
{
	pthread_t t[SENDERS];
	open_pair(on_ordered);
	for (uintptr_t i = 0; i < SENDERS; i++)
		pthread_create(&t[i], NULL, send_many, (void *)i);
	loop_run(loop);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(got, SENDERS * EACH);
	assert_int_equal(channel_backlog(sender), 0);
	close_pair();
}

static void on_bytes(void *arg, struct channel *c, struct channel_msg *m)
{
	assert_int_equal(m->id, ++got);
	assert_int_equal(m->payload.n, sizeof(big));
	bytes += m->payload.n;
	if (got == EXTRA * 20)
		loop_stop(loop);
}

static void test_backlog(void **state)
{
	open_pair(on_bytes);
	for (uint64_t i = 1; i <= EXTRA * 20; i++) /* ~33 MB: more than the kernel takes */
		assert_int_equal(channel_send(sender, 1, i, span_of(big, sizeof(big)), -1), 0);
	assert_true(channel_backlog(sender) > 0);
	loop_run(loop);
	assert_int_equal(bytes, EXTRA * 20 * sizeof(big));
	assert_int_equal(channel_backlog(sender), 0);
	close_pair();
}

static void test_overflow(void **state)
{
	open_pair(on_bytes);
	int r = 0;
	assert_int_equal(channel_send(sender, 1, 1, span_of(big, sizeof(big) + 1), -1), ERR_TOOBIG);
	for (int i = 0; i < 2000 && r == 0; i++)
		r = channel_send(sender, 1, 1, span_of(big, sizeof(big)), -1);
	assert_int_equal(r, ERR_CLOSED);
	assert_int_equal(channel_send(sender, 1, 1, SPAN_NULL, -1), ERR_CLOSED);
	channel_close(receiver);
	receiver = NULL;
	loop_run(loop);
	assert_int_equal(closed_calls, 1);
	close_pair();
}

static int taken;

static void on_fd(void *arg, struct channel *c, struct channel_msg *m)
{
	got++;
	if (m->id == 1) {
		assert_true(m->fd >= 0);
		taken = STEAL_FD(&m->fd);
	} else {
		assert_int_equal(m->fd >= 0, m->id == 3);
	}
	if (m->id == 4) {
		channel_close(c); /* within its own callback */
		receiver = NULL;
		loop_stop(loop);
	}
}

static void test_fds(void **state)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	open_pair(on_fd);
	struct channel *held = channel_ref(sender);
	channel_cork(sender);
	channel_send(sender, 1, 0, SPAN("before"), -1);
	channel_send(sender, 1, 1, SPAN("with"), p[1]);
	channel_send(sender, 1, 2, SPAN("between"), -1);
	channel_send(sender, 1, 3, SPAN("dropped"), p[1]);
	channel_send(sender, 1, 4, SPAN("last"), -1);
	channel_send(sender, 1, 5, SPAN("never seen"), -1);
	channel_uncork(sender);
	close(p[1]);
	loop_run(loop);
	assert_int_equal(got, 5);
	assert_int_equal(write(taken, "x", 1), 1);
	close(taken);
	char c[2];
	assert_int_equal(read(p[0], c, 2), 1);
	assert_int_equal(read(p[0], c, 2), 0); /* every other copy was closed */
	close(p[0]);
	close_pair();
	assert_int_equal(channel_send(held, 1, 1, SPAN_NULL, -1), ERR_CLOSED);
	channel_unref(held);
}

static void on_any(void *arg, struct channel *c, struct channel_msg *m)
{
	got++;
}

static void test_malformed(void **state)
{
	static const span bad[] = { SPAN("short"), SPAN("\xff\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0"),
				    SPAN("\0\0\0\0\1\0\1\0\0\0\0\0\0\0\0\0"),
				    SPAN("\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0tail") };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int fds[2];
		assert_int_equal(channel_pair(fds), 0);
		loop = loop_new();
		got = closed_calls = 0;
		receiver = channel_open(loop, fds[1], on_any, on_closed, NULL);
		assert_int_equal(send(fds[0], bad[i].p, bad[i].n, 0), bad[i].n);
		loop_run(loop);
		assert_int_equal(closed_calls, 1);
		assert_int_equal(got, i == 3);
		channel_close(receiver);
		close(fds[0]);
		loop_free(loop);
	}
}

static void test_blocking(void **state)
{
	int fds[2], fd = -1;
	uint16_t type = 0;
	uint64_t id = 0;
	struct buf b = BUF_INIT(CHANNEL_MAX), small = BUF_INIT(3);
	assert_int_equal(channel_pair(fds), 0);
	assert_int_equal(channel_recv_fd(fds[1], USEC_MSEC, &type, &id, &b, &fd), ERR_TIMEOUT);
	assert_int_equal(channel_send_fd(fds[0], 9, 77, SPAN("hello"), fds[0]), 0);
	assert_int_equal(channel_recv_fd(fds[1], USEC_SEC, &type, &id, &b, &fd), 0);
	assert_true(type == 9 && id == 77 && fd >= 0);
	assert_string_equal(buf_cstr(&b), "hello");
	close(fd);
	assert_int_equal(channel_send_fd(fds[0], 9, 78, SPAN_NULL, -1), 0);
	assert_int_equal(channel_recv_fd(fds[1], 0, &type, &id, &b, &fd), 0);
	assert_true(id == 78 && fd == -1 && b.n == 5);
	channel_send_fd(fds[0], 9, 79, SPAN("too long"), -1);
	assert_int_equal(channel_recv_fd(fds[1], 0, &type, &id, &small, NULL), ERR_TOOBIG);
	send(fds[0], "junk", 4, 0);
	assert_int_equal(channel_recv_fd(fds[1], 0, &type, &id, &b, NULL), ERR_PROTO);
	close(fds[0]);
	assert_int_equal(channel_recv_fd(fds[1], 0, &type, &id, &b, NULL), ERR_CLOSED);
	close(fds[1]);
	buf_done(&b);
	buf_done(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),	  cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_overflow),  cmocka_unit_test(test_fds),
		cmocka_unit_test(test_malformed), cmocka_unit_test(test_blocking),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
