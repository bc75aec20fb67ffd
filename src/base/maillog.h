/* Inside base/: events of mail as the lines that syslog's readers have known since Sendmail and Postfix
 * (pflogsumm, fail2ban, log analysers):
 *
 *   Nov 22 03:14:59 mx postrider/smtp[123]: 01m8...: to=<a@b>, relay=mx.b[192.0.2.1]:25, delay=0.4,
 *       delays=0.1/0/0.2/0.1, dsn=2.0.0, status=sent (250 2.0.0 ok)
 *
 * Which event becomes which lines is the table in maillog.c; any other is one line with its fields. */
#pragma once

#include "base/buf.h"
#include "base/log.h"

/* Appends whole lines.  ROLE is the program's part; TIME is wall time. */
void maillog_put(struct buf *b, usec time, const char *role, const char *event, const struct log_field *f);
