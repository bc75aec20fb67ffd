#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/id.h"
#include "sys/file.h"
#include "sys/zstd.h"

static char dir[64], path[128];

static const char *in_dir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int setup(void **state)
{
	strcpy(dir, "/tmp/postrider-test-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void test_replace_and_read(void **state)
{
	struct buf b = BUF_INIT(100);
	struct stat st;
	assert_int_equal(file_read(in_dir("none"), 100, &b), ERR_NOENT);
	assert_int_equal(file_replace(in_dir("f"), SPAN("first"), 0600), 0);
	assert_int_equal(file_replace(in_dir("f"), SPAN("second"), 0640), 0);
	buf_put_str(&b, "<");
	assert_int_equal(file_read(in_dir("f"), 6, &b), 0);
	assert_string_equal(buf_cstr(&b), "<second");
	assert_int_equal(file_read(in_dir("f"), 5, &b), ERR_TOOBIG);
	assert_string_equal(buf_cstr(&b), "<second");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(access(in_dir("f.new"), F_OK), -1);
	assert_int_equal(symlink("f", in_dir("link")), 0);
	assert_int_equal(file_read(path, 100, &b), ERR_PERM);
	assert_int_equal(file_remove(in_dir("f")), 0);
	assert_int_equal(file_remove(in_dir("f")), 0);
	buf_done(&b);
}

static void test_directories(void **state)
{
	uint64_t free_bytes = 0;
	assert_int_equal(file_mkdirs(in_dir("a/b/c/")), 0);
	assert_int_equal(file_mkdirs(in_dir("a/b/c")), 0);
	assert_int_equal(file_replace(in_dir("a/file"), SPAN("x"), 0600), 0);
	assert_int_equal(file_mkdirs(in_dir("a/file/b")), ERR_EXIST);
	assert_int_equal(file_sync_dir(in_dir("a/none")), ERR_NOENT);
	assert_int_equal(file_disk_free(dir, &free_bytes), 0);
	assert_true(free_bytes > 0);
}

static void test_spool(void **state)
{
	int fd = file_spool_open(dir);
	char back[4];
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, SPAN("body")), 0);
	assert_int_equal(file_pwrite_all(fd, SPAN("B"), 0), 0);
	assert_int_equal(file_spool_link(fd, in_dir("blob")), 0);
	assert_int_equal(file_spool_link(fd, in_dir("blob")), ERR_EXIST);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(file_pread_all(fd, back, 4, 0), 0);
	assert_memory_equal(back, "Body", 4);
	assert_int_equal(file_pread_all(fd, back, 4, 1), ERR_CORRUPT);
	close(fd);
	fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(file_write_all(fd, SPAN("x")), ERR_FULL);
	close(fd);
}

/* Whatever way the kernel copies: all of it, from where it was asked, or an error. */
static void test_copy(void **state)
{
	int from = file_spool_open(dir), to = file_spool_open(dir), pipes[2], full;
	char back[8];
	assert_int_equal(file_write_all(from, SPAN("0123456789")), 0);
	assert_int_equal(file_write_all(to, SPAN("ab")), 0);
	assert_int_equal(file_copy_all(from, 3, 5, to), 0);
	assert_int_equal(file_pread_all(to, back, 7, 0), 0);
	assert_memory_equal(back, "ab34567", 7);
	assert_int_equal(file_copy_all(from, 3, 0, to), 0);
	assert_int_equal(file_copy_all(from, 8, 3, to), ERR_CORRUPT); /* it is shorter */
	assert_int_equal(pipe(pipes), 0);			      /* no file: by hand */
	assert_int_equal(file_copy_all(from, 6, 4, pipes[1]), 0);
	assert_int_equal(read(pipes[0], back, sizeof(back)), 4);
	assert_memory_equal(back, "6789", 4);
	full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(file_copy_all(from, 0, 10, full), ERR_FULL);
	close(full);
	close(pipes[0]);
	close(pipes[1]);
	close(from);
	close(to);
}

static void check_range(span frames, const char *raw, size_t size, uint64_t from, uint64_t n)
{
	struct buf out = BUF_INIT(2 << 20);
	size_t start = MIN(from, size), len = MIN(n, size - start);
	buf_put_char(&out, '!');
	assert_int_equal(zstd_read(&out, frames, from, n), 0);
	assert_int_equal(out.n, len + 1);
	assert_true(len == 0 || memcmp(out.p + 1, raw + start, len) == 0);
	buf_done(&out);
}

static void test_zstd(void **state)
{
	const size_t size = ZSTD_FRAME_RAW * 3 + 1000;
	_cleanup_(freep) char *raw = xmalloc(size);
	for (size_t i = 0; i < size; i++)
		raw[i] = (char)(i / 1000 + i % 13);
	struct buf b = BUF_INIT(2 << 20), out = BUF_INIT(100);
	assert_int_equal(zstd_compress(&b, span_of(raw, size), 3), 0);
	span frames = buf_span(&b);
	assert_true(frames.n < size / 4);
	check_range(frames, raw, size, 0, UINT64_MAX);
	check_range(frames, raw, size, ZSTD_FRAME_RAW - 1, 2);
	check_range(frames, raw, size, ZSTD_FRAME_RAW, ZSTD_FRAME_RAW);
	check_range(frames, raw, size, size - 1, 10);
	check_range(frames, raw, size, size + 5, 10);
	assert_int_equal(zstd_read(&out, frames, 0, 101), ERR_TOOBIG);
	assert_int_equal(out.n, 0);
	for (int i = 0; i < 300; i++) { /* damage is noticed or harmless, never more */
		struct buf bad = BUF_INIT(2 << 20), back = BUF_INIT(2 << 20);
		buf_put_span(&bad, span_sub(frames, 0, i % 3 ? frames.n : random_below(frames.n)));
		if (bad.n)
			bad.p[random_below(bad.n)] ^= (char)(1 << random_below(8));
		int r = zstd_read(&back, buf_span(&bad), 0, UINT64_MAX);
		assert_true(r == 0 || r == ERR_CORRUPT);
		assert_true(back.n <= size);
		buf_done(&bad);
		buf_done(&back);
	}
	assert_int_equal(zstd_read(&out, SPAN("not zstd"), 0, 5), ERR_CORRUPT);
	assert_int_equal(zstd_read(&out, SPAN_NULL, 0, 5), 0);
	assert_int_equal(zstd_compress(&out, SPAN("x"), 20), ERR_INVAL);
	buf_done(&b);
	buf_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_and_read),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_spool),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_zstd),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
