/* The HTTP hook: a message as a JSON object, and a JSON object as the verdict (docs/filters.md).
 * Pure. */
#pragma once

#include "filter/filter.h"

struct hook_message {
	const struct filter_session *session;
	const char *stage; /* "rcpt" or "message" */
	bool submission;
	const span *rcpts;
	size_t n_rcpts;
	span header;   /* stage "message": with the empty line */
	uint64_t size; /* of the whole message */
	span body;     /* given in base64 if SHOW_BODY */
	bool show_body;
};
/* ERR_TOOBIG. */
int hook_request_put(struct buf *b, const struct hook_message *m);
/* The result in an answer's body; what is no such answer is FILTER_FAILED. */
void hook_answer_parse(span json, struct arena *mem, struct filter_result *ret);
