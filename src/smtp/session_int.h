/* Inside smtp/: core's truth about one session, and what a job carries around. */
#pragma once

#include "mail/mail.h"
#include "sasl/sasl.h"
#include "smtp/parse.h"
#include "smtp/smtp.h"
#include "smtp/wire.h"

/* A recipient that waits: to be looked up, or for what the filters say of it. */
struct smtp_rcpt {
	struct address address;
	struct mail_route *routes;
	size_t n_routes;
	struct mail_verdict verdict;
};

struct smtp_session {
	bool helo, esmtp;
	char *helo_name; /* malloc'd; as the peer said it */
	/* XCLIENT: whom the proxy speaks for is in sess.peer, the proxy itself here */
	bool proxied;
	struct sockaddr_any proxy;
	char *peer_name; /* malloc'd; or NULL */
	bool authenticated;
	struct arena auth_mem; /* of ACCOUNT */
	struct directory_account account;
	char auth_type[24]; /* the mechanism that was used last */
	struct sasl *sasl; /* an exchange is under way */
	unsigned auth_failures;
	struct mail_transaction *mail;
	struct smtp_rcpt *rcpt; /* NULL, or the one that waits; in MAIL's arena */
	struct mail_verdict
		refused; /* code != 0: MAIL was answered 250 in front, but its RCPTs hear this */
	unsigned rejected_total; /* recipients of this session */
	unsigned rejected;	 /* recipients of this transaction */
	int body_error;		 /* the first failure of a piece; the rest is dropped */
	unsigned body_defects;
	size_t resume_at; /* of the input: the line that waits for an answer (sess_wait) */
};

enum smtp_end { SMTP_END_PARK, SMTP_END_WAIT, SMTP_END_CLOSE, SMTP_END_STARTTLS };

struct smtp_job {
	struct sess *s;
	struct smtp_session *st;
	struct core_env *env;
	struct conf *conf;
	bool quiet; /* front has answered this command */
	bool greeted; /* the client was greeted anew (XCLIENT) */
	enum smtp_end end;
	uint64_t ticket; /* the answer waits until what it promises is durable; 0: it is */
};

void smtp_say(struct smtp_job *j, unsigned code, const char *enhanced, span text);
static inline void smtp_answer(struct smtp_job *j, const struct smtp_answer *a)
{
	smtp_say(j, a->code, a->enhanced, span_str(a->text));
}
struct address smtp_address_copy(const struct address *a, struct arena *mem);
bool smtp_is_submission(const struct sess *s);
bool smtp_is_lmtp(const struct sess *s);
struct smtp_phase smtp_phase_of(const struct smtp_job *j);

/* The client's verified name, or "unknown". */
span smtp_client(const struct mail_transaction *t);
/* A recipient (TO), or the message (TO empty), was refused. */
void smtp_log_rejected(struct mail_transaction *t, span to, const struct mail_verdict *v);

/* Ends the transaction without a message; what happened so far goes to the timeline.  WHY is an
 * event name. */
void smtp_drop_mail(struct core_env *env, struct smtp_session *st, const char *why);
/* Forgets all that the peer said, EHLO and AUTH too (RFC 3207 4.2). */
void smtp_forget(struct core_env *env, struct smtp_session *st);

typedef void smtp_command_fn(struct smtp_job *j, const struct smtp_command *c, span line);
smtp_command_fn smtp_cmd_helo, smtp_cmd_mail, smtp_cmd_rset, smtp_cmd_rcpt, smtp_cmd_auth,
	smtp_cmd_starttls, smtp_cmd_etrn, smtp_cmd_xclient;
/* MAIL could not be taken although front has said 250. */
void smtp_refuse_mail(struct smtp_job *j, const struct smtp_answer *a);
/* The next line of an AUTH exchange. */
void smtp_auth_line(struct smtp_job *j, span line);
void smtp_auth_resume(struct smtp_job *j); /* the line before has waited for an answer */
/* A piece of a message. */
void smtp_body_piece(struct smtp_job *j, const struct sess_in *in);
