#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "sys/spawn.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED

/* The sanitizers read /proc, map executable pages and fork a checker: they cannot be confined. */
int sandbox_enter(enum sandbox_profile profile, const char *writable, struct err_info *info)
{
	if (profile == SANDBOX_NONE)
		return 0;
	return err_set(info, ERR_UNSUPPORTED, "sanitizer build: no sandbox");
}

#else

/* ------------------------------------------------------------------ Landlock */

/* The kernel's structure up to ABI 6; older headers know only the first member or two. */
struct ruleset {
	uint64_t fs, net, scoped;
};

/* How many rights on files, counted from bit 0, each ABI knows. */
static const unsigned fs_rights[] = { 0, 13, 14, 15, 15, 16 };
enum { NET_RIGHTS = 3 /* bind, connect */, SCOPES = 3 /* abstract sockets, signals */ };

static long ruleset_create(const struct ruleset *attr, size_t size, unsigned flags)
{
	return syscall(SYS_landlock_create_ruleset, attr, size, flags);
}

static int landlock_allow(int rules, const char *dir, uint64_t rights)
{
	_cleanup_(close_fdp) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	/* Everything a key store does, and nothing that makes devices, sockets or links elsewhere.
	 */
	uint64_t wanted = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
			  LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
			  LANDLOCK_ACCESS_FS_MAKE_REG | (uint64_t)1 << 14 /* truncate, ABI 3 */;
	struct landlock_path_beneath_attr beneath = { .allowed_access = wanted & rights,
						      .parent_fd = fd };
	return (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
}

static int enter_landlock(enum sandbox_profile profile, const char *writable, struct err_info *info)
{
	long abi = ruleset_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 1)
		return err_set(info, ERR_UNSUPPORTED, "Landlock: %s", strerror(errno));
	bool net = profile != SANDBOX_OUT;
	struct ruleset attr = {
		.fs = ((uint64_t)1 << fs_rights[MIN((size_t)abi, ARRAY_LEN(fs_rights) - 1)]) - 1,
		.net = abi >= 4 && net ? NET_RIGHTS : 0,
		.scoped = abi >= 6 ? SCOPES : 0,
	};
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	_cleanup_(close_fdp) int rules = (int)ruleset_create(&attr, size, 0);
	if (rules < 0)
		return err_set(info, ERR_UNSUPPORTED, "Landlock rules: %s", strerror(errno));
	if (profile == SANDBOX_KEYS && writable && landlock_allow(rules, writable, attr.fs) != 0)
		return err_set(info, ERR_UNSUPPORTED, "Landlock: %s: %s", writable,
			       strerror(errno));
	if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
		return err_set(info, ERR_UNSUPPORTED, "Landlock: %s", strerror(errno));
	return 0;
}

/* ------------------------------------------------------------------ seccomp */

#define CALL(name) SCMP_SYS(name)

static const int common_calls[] = {
	/* bytes on fds that are open already */
	CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(recvfrom), CALL(sendto),
	CALL(recvmsg), CALL(sendmsg), CALL(pread64), CALL(pwrite64), CALL(lseek), CALL(ftruncate),
	CALL(fstat), CALL(accept4), CALL(shutdown), CALL(setsockopt), CALL(getsockopt),
	CALL(getsockname), CALL(getpeername), CALL(close), CALL(socketpair),
	/* waiting */
	CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_wait), CALL(epoll_pwait),
	CALL(epoll_pwait2), CALL(eventfd2), CALL(poll), CALL(ppoll), CALL(futex), CALL(nanosleep),
	CALL(clock_nanosleep), CALL(restart_syscall), CALL(sched_yield),
	/* memory; mmap and mprotect have rules of their own */
	CALL(munmap), CALL(mremap), CALL(madvise), CALL(brk),
	/* time, randomness, who am I */
	CALL(clock_gettime), CALL(clock_getres), CALL(gettimeofday), CALL(time), CALL(getrandom),
	CALL(getpid), CALL(getppid), CALL(gettid), CALL(getuid), CALL(geteuid), CALL(getgid),
	CALL(getegid), CALL(getcpu), CALL(sched_getaffinity), CALL(uname),
	/* threads, signals, the end */
	CALL(set_robust_list), CALL(rseq), CALL(rt_sigprocmask), CALL(rt_sigaction),
	CALL(rt_sigreturn), CALL(rt_sigtimedwait), CALL(sigaltstack), CALL(exit), CALL(exit_group)
};

static const int out_calls[] = { CALL(connect),		CALL(bind),	      CALL(select),
				 CALL(pselect6),	CALL(recvmmsg),	      CALL(sendmmsg),
				 CALL(pipe2),		CALL(pipe),	      CALL(timerfd_create),
				 CALL(timerfd_settime), CALL(timerfd_gettime) };
/* What strangers are reached by.  Landlock lets every local socket be connected to: with AF_UNIX,
 * out could speak to the admin socket where all roles have one uid. */
static const int out_families[] = { AF_INET, AF_INET6 };

/* Landlock says where. */
static const int keys_calls[] = { CALL(openat),	   CALL(newfstatat), CALL(unlink),
				  CALL(unlinkat),  CALL(rename),     CALL(renameat),
				  CALL(renameat2), CALL(fsync),	     CALL(fdatasync),
				  CALL(fchmod),	   CALL(getdents64) };

static const int fcntl_commands[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC };

static int allow_list(scmp_filter_ctx f, const int *calls, size_t n)
{
	int r = 0;
	for (size_t i = 0; i < n && r == 0; i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

/* Calls that are harmless only with certain arguments. */
static int allow_conditional(scmp_filter_ctx f)
{
	int r = 0;
	r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(mmap), 1,
			      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(mprotect), 1,
			      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	for (size_t i = 0; i < ARRAY_LEN(fcntl_commands); i++)
		r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(fcntl), 1,
				      SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntl_commands[i]));
	r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	/* abort() of an assertion, on the own process only */
	r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(tgkill), 1,
			      SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	/* Threads, no processes.  clone3 hides its flags behind a pointer; glibc then takes clone.
	 */
	r |= seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), CALL(clone3), 0);
	r |= seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(clone), 1,
			      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	return r;
}

static int enter_seccomp(enum sandbox_profile profile, struct err_info *info)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!f)
		return err_set(info, ERR_UNSUPPORTED, "seccomp: cannot start a filter");
	int r = allow_list(f, common_calls, ARRAY_LEN(common_calls));
	if (r == 0 && profile == SANDBOX_OUT)
		r = allow_list(f, out_calls, ARRAY_LEN(out_calls));
	for (size_t i = 0; r == 0 && profile == SANDBOX_OUT && i < ARRAY_LEN(out_families); i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, CALL(socket), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)out_families[i]));
	if (r == 0 && profile == SANDBOX_KEYS)
		r = allow_list(f, keys_calls, ARRAY_LEN(keys_calls));
	if (r == 0)
		r = allow_conditional(f);
	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE,
				     2); /* a binary tree, not a list */
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r == 0 ? 0 : err_set(info, ERR_UNSUPPORTED, "seccomp: %s", strerror(r < 0 ? -r : r));
}

/* ------------------------------------------------------------------ entering */

static void *exit_at_once(void *arg)
{
	pthread_exit(arg);
}

/* What glibc would open lazily, behind the lock: libgcc_s (pthread_exit needs it) and the
 * time zone. */
static void load_before(void)
{
	pthread_t t;
	tzset();
	if (pthread_create(&t, NULL, exit_at_once, NULL) == 0)
		pthread_join(t, NULL);
}

int sandbox_enter(enum sandbox_profile profile, const char *writable, struct err_info *info)
{
	if (profile == SANDBOX_NONE)
		return 0;
	load_before();
	/* Where all roles have one uid, another one (core, which is not confined) could otherwise
	 * read this one's memory: the private keys. */
	if (prctl(PR_SET_DUMPABLE, 0) != 0)
		return err_set(info, ERR_UNSUPPORTED, "dumpable: %s", strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_set(info, ERR_UNSUPPORTED, "no_new_privs: %s", strerror(errno));
	/* Whatever the kernel lacks, the other half is still worth having. */
	int a = enter_landlock(profile, writable, info);
	int b = enter_seccomp(profile, a < 0 ? NULL : info);
	return a < 0 ? a : b;
}

#endif
