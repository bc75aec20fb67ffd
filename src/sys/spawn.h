/* Starting, confining and ending processes.  Nothing here runs a shell. */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/* Re-execs /proc/self/exe as `postrider -x ROLE` with CONTROL_FD as fd 3 and nothing else open but
 * 0-2; new process group; PR_SET_PDEATHSIG so that no role outlives the parent.  Returns the pid. */
pid_t spawn_role(const char *role, int control_fd, struct err_info *info);
/* uid and gid of USER, a name or a number (which is then both).  ERR_NOENT. */
int spawn_find_user(const char *user, uid_t *ret_uid, gid_t *ret_gid, struct err_info *info);
/* Changes to USER's uid/gid (all groups dropped); a no-op when not root.  ERR_NOENT if no such user. */
int spawn_drop(const char *user, struct err_info *info);

/* For a process that starts others: SIGTERM, SIGINT, SIGHUP and SIGCHLD are blocked from now on and read
 * from the signalfd that is returned (non-blocking, close-on-exec); SIGPIPE is ignored. */
int spawn_signals_open(void);

/* What a role may do afterwards.  Irreversible, for the calling thread and its later children:
 * call before the first pthread_create. */
enum sandbox_profile {
	SANDBOX_NONE,
	SANDBOX_FRONT, /* no files, no sockets of its own: accept, read, write only */
	SANDBOX_OUT,   /* no files; sockets and connects allowed */
	SANDBOX_KEYS,  /* one directory (may be NULL for none) read-write, no network */
};
/* Landlock (as far as the kernel knows it) + seccomp.  WRITABLE: for SANDBOX_KEYS.  INFO tells what
 * could not be applied; returns ERR_UNSUPPORTED then (the caller decides whether to go on). */
int sandbox_enter(enum sandbox_profile profile, const char *writable, struct err_info *info);
