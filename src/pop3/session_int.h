/* POP3's core half, inside. */
#pragma once

#include "mail/env.h"
#include "pop3/commands.h"
#include "pop3/pop3.h"
#include "pop3/wire.h"
#include "sasl/sasl.h"

struct pop3_message {
	uint32_t uid;
	bool deleted; /* by DELE: goes at QUIT */
	uint64_t size;
};

/* A multi-line answer that is being written. */
enum pop3_output { POP3_OUT_NONE, POP3_OUT_LIST, POP3_OUT_UIDL, POP3_OUT_MESSAGE };

struct pop3_session {
	struct sess *s;
	unsigned state; /* POP3_IN_* */
	bool closing, starttls;
	unsigned auth_failures, bads;
	span user; /* malloc'd; USER's argument */
	struct sasl *sasl;
	/* transaction: the maildrop as it was at the login */
	char account_id[ACCOUNT_ID_LEN + 1];
	uint64_t generation; /* of the account */
	int64_t mailbox;
	uint32_t uidvalidity;
	struct pop3_message *messages;
	size_t n;
	/* output under way */
	enum pop3_output output;
	size_t at_message;
	int64_t body_id;
	uint64_t from, end; /* bytes of the message that are still to be sent */
	uint64_t header_end;
	bool limited;	     /* TOP: */
	uint32_t lines_left; /* of the body */
	bool line_start, ends_crlf;
	char last;
};

struct pop3_job {
	struct sess *s;
	struct pop3_session *st;
	struct core_env *env;
	struct account *account;
};

/* session.c */
int pop3_account(struct pop3_job *j, struct account **ret);
void pop3_ok(struct pop3_job *j, const char *text);
void pop3_err(struct pop3_job *j, const char *text); /* TEXT with response code */
void pop3_forget(struct pop3_session *st);

/* auth.c */
void pop3_cmd_user(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_pass(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_auth(struct pop3_job *j, const struct pop3_args *a);
void pop3_auth_line(struct pop3_job *j, span line);
void pop3_auth_resume(struct pop3_job *j); /* after sess_wait() */

/* maildrop.c */
int pop3_maildrop_open(struct pop3_job *j);
void pop3_cmd_stat(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_list(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_retr(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_dele(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_rset(struct pop3_job *j, const struct pop3_args *a);
void pop3_cmd_quit(struct pop3_job *j, const struct pop3_args *a);
void pop3_output_run(struct pop3_job *j); /* until it is done or must drain */
