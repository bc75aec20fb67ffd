/* DNS as the verifiers see it: a question has an answer or is pending.
 *
 * The verifiers never wait.  One that meets a pending question notes it, asks for whatever else it
 * can foresee, and returns ERR_AGAIN; once the answers are there it is run again from the start,
 * with the same result up to that point.  Expensive work (hashes, signatures) comes after the
 * questions. The loop of a caller with a real resolver:
 *
 *	while ((e = spf_check(&in, trust_answers_lookup(t), mem, &r)) == ERR_AGAIN) {
 *		q = trust_answers_missing(t, &n);
 *		... ask them all in one DNS_ASK; later, for each answer: trust_answers_add(t, a);
 *	}
 */
#pragma once

#include "base/arena.h"
#include "dns/dns.h"

struct trust_lookup {
	/* The answer, or NULL: pending.  NAME is lower case, at most 253 bytes, labels of 1..63
	 * bytes of any kind, no final dot.  The answer lives as long as the evaluation.  Its
	 * records are of TYPE only (aliases followed). */
	const struct dns_answer *(*ask)(void *arg, span name, enum dns_type type);
	void *arg;
};

/* Asks for NAME in any case, with or without a final dot.  A name that DNS cannot hold answers
 * NXDOMAIN without a question.  NULL: pending. */
const struct dns_answer *trust_ask(const struct trust_lookup *l, struct arena *mem, span name,
				   enum dns_type type);
/* Can DNS hold NAME (labels of 1..63 bytes, at most 253 in all)? */
bool trust_name_valid(span name);
/* Is there no answer for now (servfail, bogus, time-out)? */
bool trust_answer_failed(const struct dns_answer *a);

/* --- answers collected for one message --- */
#define TRUST_QUESTIONS_MAX 512 /* a message; more are answered SERVFAIL, unasked */

struct trust_answers;
/* All memory is MEM's. */
struct trust_answers *trust_answers_new(struct arena *mem);
/* Frees what MEM does not own. */
void trust_answers_free(struct trust_answers *t);
DEFINE_CLEANUP(struct trust_answers, trust_answers_free)
const struct trust_lookup *trust_answers_lookup(struct trust_answers *t);
/* Takes an answer (copied); one to a question that nobody asked is ignored. */
void trust_answers_add(struct trust_answers *t, const struct dns_answer *a);
/* The questions noted since the last call of this function; valid until the next evaluation.  There
 * may be more than fit into one request (DNS_ASK_MAX). */
const struct dns_question *trust_answers_missing(struct trust_answers *t, size_t *ret_n);
/* Names asked so far. */
size_t trust_answers_count(const struct trust_answers *t);
