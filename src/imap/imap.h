/* IMAP's core half (RFC 3501 and extensions): session state, commands.  One file per command
 * family. */
#pragma once

#include "sys/session.h"

extern const struct sess_ops imap_sess_ops;
