/* Inside mail/: the chain of filters and one transaction.
 *
 * Each filter that the configuration has for this transaction is asked in turn, at each recipient
 * (those of stage "all") and about the whole message, which a later one sees as an earlier one left
 * it.  What is asked is a question to `out`, so the job ends and comes back with the answer. */
#pragma once

#include "filter/filter.h"
#include "mail/inspect.h"

struct filter_state {
	const struct conf_filter *conf;
	uint64_t conversation; /* 0: none is open */
	bool over;	       /* it wants to hear no more of this message */
};

struct mail_filters {
	struct core_env *env;
	struct conf *conf; /* of the transaction's first recipient: a reload changes nothing here */
	struct arena mem;
	struct filter_state *states;
	size_t n, at; /* AT: the one being asked */
	bool fresh;   /* the question under way began its conversation */
	struct ask_set *rcpt_asks;
	/* the message */
	bool prepared, skipped; /* skipped: its bytes are suspect, or it will be refused anyway */
	size_t header_size;
	int whole; /* all of it in one file, or -1 */
	uint64_t whole_size;
	bool discard, quarantine;
};

/* filter_apply.c: makes of T what filter ST wants.  The new body, if there is one, stands behind the
 * message in F->whole.  ERR_*: as mail_body_add(). */
int filter_apply(struct core_env *env, struct mail_transaction *t, const struct filter_state *st,
		 const struct filter_result *r);
