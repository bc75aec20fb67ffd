#include "sys/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"

enum { CONTROL = 3, REPORT = 4 };

/* In the child: only async-signal-safe calls.  REPORT carries errno if exec did not happen. */
static void become_role(const char *role, int control, int report, pid_t parent)
{
	char *argv[] = { (char *)"postrider", (char *)"-x", (char *)role, NULL };
	sigset_t none;
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* Both fds out of the way of 3 and 4 first, whatever their numbers are. */
	control = fcntl(control, F_DUPFD_CLOEXEC, REPORT + 1);
	report = fcntl(report, F_DUPFD_CLOEXEC, REPORT + 1);
	if (control >= 0 && report >= 0 && dup2(control, CONTROL) == CONTROL &&
	    dup3(report, REPORT, O_CLOEXEC) == REPORT && close_range(REPORT + 1, ~0u, 0) == 0 &&
	    prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
		execv("/proc/self/exe", argv);
	int e = errno ? errno : ESRCH;
	ssize_t ignored _unused_ = write(REPORT, &e, sizeof(e));
	_exit(127);
}

pid_t spawn_role(const char *role, int control_fd, struct err_info *info)
{
	int pipe_fds[2];
	if (pipe2(pipe_fds, O_CLOEXEC) != 0)
		return err_set(info, err_from_errno(errno), "%s: pipe: %s", role, strerror(errno));
	_cleanup_(close_fdp) int report = pipe_fds[0];
	pid_t parent = getpid(), child = fork();
	if (child == 0)
		become_role(role, control_fd, pipe_fds[1], parent);
	int e = errno;
	close(pipe_fds[1]);
	if (child < 0)
		return err_set(info, err_from_errno(e), "%s: fork: %s", role, strerror(e));
	ssize_t n;
	do
		n = read(report, &e, sizeof(e)); /* ends when exec closes the other side */
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return child;
	waitpid(child, NULL, 0);
	return err_set(info, err_from_errno(e), "%s: exec: %s", role, strerror(e));
}

int spawn_find_user(const char *user, uid_t *ret_uid, gid_t *ret_gid, struct err_info *info)
{
	uint64_t number;
	if (span_u64(span_str(user), UINT32_MAX - 1, &number)) {
		*ret_uid = (uid_t)number;
		*ret_gid = (gid_t)number;
		return 0;
	}
	const size_t size = 64 * 1024;
	_cleanup_(freep) char *space = xmalloc(size);
	struct passwd pw, *found = NULL;
	int e = getpwnam_r(user, &pw, space, size, &found);
	if (!found)
		return err_set(info, ERR_NOENT, "no such user: %s%s%s", user, e ? ": " : "",
			       e ? strerror(e) : "");
	*ret_uid = pw.pw_uid;
	*ret_gid = pw.pw_gid;
	return 0;
}

int spawn_drop(const char *user, struct err_info *info)
{
	if (geteuid() != 0)
		return 0;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	int r = spawn_find_user(user, &uid, &gid, info);
	if (r < 0)
		return r;
	/* A change of credentials clears the parent-death signal: put it back. */
	int death = 0;
	pid_t parent = getppid();
	prctl(PR_GET_PDEATHSIG, &death);
	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
	    setresuid(uid, uid, uid) != 0)
		return err_set(info, ERR_PERM, "cannot become %s: %s", user, strerror(errno));
	if (death && prctl(PR_SET_PDEATHSIG, death) != 0)
		return err_set(info, ERR_PERM, "cannot tie to the parent: %s", strerror(errno));
	if (death && getppid() != parent)
		raise(death); /* it died in between */
	if (uid != 0 && setuid(0) == 0)
		return err_set(info, ERR_PERM, "could become root again");
	return 0;
}

int spawn_signals_open(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
