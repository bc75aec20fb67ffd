/* Inside mail/: what is asked of the outside about a transaction before it is judged.
 *
 * Nobody waits for an answer: a stage that lacks one puts its questions into `asks` and says
 * ERR_AGAIN; the job ends, and runs mail_inspect() again when the transaction's wake was called.
 * Stages run in order, each until it is done, on LANE_DELIVERY. */
#pragma once

#include "mail/mail_int.h"
#include "sys/ask.h"
#include "trust/authres.h"

struct mail_inspection {
	struct arena mem; /* of the stage under way */
	unsigned stage;	  /* the one under way; past the last: all is known */
	struct ask_set *asks;
	usec deadline; /* monotonic; past it what is missing counts as timed out */

	/* authenticate.c */
	struct trust_answers *answers;
	struct dns_question *questions; /* of `asks`, in batches of ASK_BATCH */
	size_t n_questions;
	struct message message;
	void *map; /* the whole message, if it is not in memory */
	size_t map_size;
	struct spf_verdict spf, helo;
	struct dkim_verdict dkim;
	struct arc_verdict arc;
	struct dmarc_verdict dmarc;
	struct iprev_verdict iprev;
	span fields; /* what they are written as, above the message */

	struct signing *signing; /* sign.c: drafts that wait for their signatures */

	struct mail_verdict refusal; /* code != 0: what mail_receive() answers */
	bool junk;		     /* to the Junk mailbox instead of INBOX */
};

/* One stage: 0: done; ERR_AGAIN: questions were added to I->asks (which is let go by the caller). */
typedef int inspect_stage_fn(struct core_env *env, struct mail_transaction *t, struct conf *conf,
			     struct mail_inspection *i);
inspect_stage_fn inspect_sender;  /* authenticate.c */
inspect_stage_fn inspect_filters; /* filters.c */
inspect_stage_fn inspect_sign;	  /* sign.c */

struct ask_set *inspect_asks(struct core_env *env, struct mail_transaction *t); /* makes it if there is none */
/* Parses the whole message, which is valid until T's body changes, once in an inspection. */
int inspect_message(struct core_env *env, struct mail_transaction *t, struct mail_inspection *i);
void inspect_sender_done(struct mail_inspection *i);
