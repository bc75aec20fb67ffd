/* SMTP's core half: the session's truth and the commands.  One file per command family. */
#pragma once

#include "sys/session.h"

extern const struct sess_ops smtp_sess_ops;	  /* SESS_PROTO_SMTP */
extern const struct sess_ops submission_sess_ops; /* SESS_PROTO_SUBMISSION */
extern const struct sess_ops local_sess_ops;	  /* SESS_PROTO_LOCAL: whoever asks is known already */
extern const struct sess_ops lmtp_sess_ops;	  /* SESS_PROTO_LMTP */
