/* Roles: what each process may do, one screen each (parent.c front.c core.c out.c keys.c).
 *
 * Parent starts a role with its control channel as fd 3 (or, with --single, as an argument of its
 * thread).  Messages on it are of role/control.h. */
#pragma once

#include <stdbool.h>

/* Main functions; CONTROL is the blocking SEQPACKET fd to parent.  Return the exit code. */
int role_front(int control, bool single);
int role_core(int control, bool single);
int role_out(int control, bool single);
int role_keys(int control, bool single);
/* The parent itself: runs until SIGTERM (or *STOP_FD becomes readable).  CONF_PATH is reread on SIGHUP. */
struct parent_options { const char *conf_path; bool single; int ready_fd; /* -1, or gets one byte when all listen */ };
int role_parent(const struct parent_options *o);
/* The sysexits(3) code that tells a person what kind of failure ERR (negative enum err) was. */
int role_exit_code(int err);
