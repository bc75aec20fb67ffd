/* The one error vocabulary.  Functions return 0 or a positive value for success and a negative
 * `enum err` for failure; `ret_` out-parameters stay untouched on failure. */
#pragma once

#include "base/util.h"

enum err {
	ERR_OK = 0,
	ERR_NOMEM = -1,       /* a sized-by-peer allocation was refused (small ones abort) */
	ERR_INVAL = -2,       /* the caller's argument is not valid */
	ERR_SYNTAX = -3,      /* input does not parse */
	ERR_TOOBIG = -4,      /* a limit on size, count or depth was passed */
	ERR_NOENT = -5,       /* no such thing */
	ERR_EXIST = -6,       /* exists already */
	ERR_PERM = -7,        /* not allowed */
	ERR_AUTH = -8,        /* wrong credentials */
	ERR_AGAIN = -9,       /* not now; the same call may work later */
	ERR_TIMEOUT = -10,    /* a deadline passed */
	ERR_CLOSED = -11,     /* the peer closed, or the object is shutting down */
	ERR_IO = -12,         /* read or write failed */
	ERR_SYNC = -13,       /* a sync failed: what was written may be gone (poisons a database) */
	ERR_FULL = -14,       /* disk full: nothing was written; may heal by itself */
	ERR_QUOTA = -15,      /* the account's own limit */
	ERR_CORRUPT = -16,    /* stored data is not what was written */
	ERR_VERSION = -17,    /* written by a newer release */
	ERR_BUSY = -18,       /* owned by another process */
	ERR_PROTO = -19,      /* the peer broke the protocol */
	ERR_TLS = -20,        /* TLS handshake or record failure */
	ERR_DNS = -21,        /* look-up failed for now (SERVFAIL, bogus, time-out) */
	ERR_UNSUPPORTED = -22,
	ERR_INTERNAL = -23,
};

/* Short English text of ERR, without a full stop; never NULL. */
const char *err_text(int err);

/* The enum err that stands for errno value E: ENOSPC/EDQUOT are ERR_FULL, ENOENT ERR_NOENT, ... */
int err_from_errno(int e);

/* Where a person needs the reason.  Owned by the caller; TEXT is one line, NUL-terminated. */
struct err_info {
	int code;
	char text[240];
};

/* Fills INFO (may be NULL) and returns CODE.  FMT must not carry peer bytes unescaped. */
int err_set(struct err_info *info, int code, const char *fmt, ...) _printf_(3, 4);
