/* The other end of the admin socket (api/admin.h): how the command line and the lab ask. */
#pragma once

#include "base/err.h"
#include "format/json.h"

typedef void admin_row_fn(void *arg, const json_t *row);

/* Asks the server that listens at SOCKET.  REQUEST is borrowed; each result row goes to ROW (may be
 * NULL), borrowed.  Blocks until the answer is complete.
 *
 * 0, or a negative error with one sentence in INFO: ERR_NOENT (nobody listens there), ERR_PERM (the
 * socket may not be opened), ERR_CLOSED (the answer broke off), ERR_EXIST (the server says that the
 * thing is there already), ERR_INVAL (any other refusal).  *RET_EXIT (may be NULL) is then the
 * sysexits(3) code for it. */
int admin_ask(const char *socket, const json_t *request, admin_row_fn *row, void *arg,
	      int *ret_exit, struct err_info *info);
