#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const char *err_text(int err)
{
	static const char *const text[] = {
		[-ERR_OK] = "success",
		[-ERR_NOMEM] = "out of memory",
		[-ERR_INVAL] = "invalid argument",
		[-ERR_SYNTAX] = "syntax error",
		[-ERR_TOOBIG] = "too big",
		[-ERR_NOENT] = "not found",
		[-ERR_EXIST] = "exists already",
		[-ERR_PERM] = "not permitted",
		[-ERR_AUTH] = "authentication failed",
		[-ERR_AGAIN] = "temporarily unavailable",
		[-ERR_TIMEOUT] = "timed out",
		[-ERR_CLOSED] = "connection closed",
		[-ERR_IO] = "input/output error",
		[-ERR_SYNC] = "sync to disk failed",
		[-ERR_FULL] = "disk full",
		[-ERR_QUOTA] = "over quota",
		[-ERR_CORRUPT] = "data corrupt",
		[-ERR_VERSION] = "written by a newer release",
		[-ERR_BUSY] = "in use by another process",
		[-ERR_PROTO] = "protocol violation",
		[-ERR_TLS] = "TLS failure",
		[-ERR_DNS] = "DNS look-up failed",
		[-ERR_UNSUPPORTED] = "not supported",
		[-ERR_INTERNAL] = "internal error",
	};
	if (err >= 0)
		return text[0];
	if (err <= -(int)ARRAY_LEN(text))
		return "unknown error";
	return text[-err];
}

int err_from_errno(int e)
{
	switch (e) {
	case 0:
		return ERR_OK;
	case ENOMEM:
		return ERR_NOMEM;
	case EINVAL:
	case EBADF:
		return ERR_INVAL;
	case ENOENT:
	case ENOTDIR:
	case ESRCH:
		return ERR_NOENT;
	case EEXIST:
	case ENOTEMPTY:
		return ERR_EXIST;
	case EPERM:
	case EACCES:
	case EROFS:
	case ELOOP:
		return ERR_PERM;
	case EAGAIN:
	case EINTR:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
		return ERR_AGAIN;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case EPIPE:
	case ECONNRESET:
	case ECONNABORTED:
	case ENOTCONN:
	case ESHUTDOWN:
		return ERR_CLOSED;
	case ENOSPC:
	case EDQUOT:
		return ERR_FULL;
	case EFBIG:
	case EMSGSIZE:
	case E2BIG:
	case ENAMETOOLONG:
		return ERR_TOOBIG;
	case EBUSY:
	case EADDRINUSE:
	case ETXTBSY:
		return ERR_BUSY;
	case EPROTO:
		return ERR_PROTO;
	case ENOSYS:
	case EOPNOTSUPP:
	case EAFNOSUPPORT:
	case EPROTONOSUPPORT:
		return ERR_UNSUPPORTED;
	default:
		return ERR_IO;
	}
}

int err_set(struct err_info *info, int code, const char *fmt, ...)
{
	if (!info)
		return code;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(info->text, sizeof(info->text), fmt, ap);
	va_end(ap);
	/* One line, whatever a library's message contained. */
	for (char *p = info->text; *p; p++) {
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	}
	info->code = code;
	return code;
}
