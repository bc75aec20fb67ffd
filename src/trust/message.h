/* A message as signatures see it: its fields, found by name from the bottom up, and its body.
 * Lines end with CRLF.  Pure. */
#pragma once

#include "base/arena.h"
#include "base/err.h"

#define MESSAGE_FIELDS_MAX 4096
#define MESSAGE_HEADER_MAX (1024 * 1024)

#define MESSAGE_NO_FIELD UINT32_MAX

struct message_field {
	span name, value; /* as format/header.h gives them */
	span raw;	  /* without the final CRLF */
	uint32_t id;	  /* the same for equal names */
	uint32_t above;	  /* the next field of that name upwards, or MESSAGE_NO_FIELD */
};
struct message {
	struct message_field *field;
	uint32_t n;
	uint32_t n_ids;
	uint32_t *lowest; /* by id: the last field of that name */
	uint32_t *slot;	  /* hash table of id + 1; slot_mask + 1 places */
	uint32_t slot_mask;
	span body;
};
/* Points into TEXT and MEM.  ERR_TOOBIG: more fields or bytes of header than above. */
int message_parse(span text, struct arena *mem, struct message *ret);
/* The id of NAME, or MESSAGE_NO_FIELD if there is no such field. */
uint32_t message_id(const struct message *m, span name);
/* The first (topmost) field NAME at or below FROM, or MESSAGE_NO_FIELD. */
uint32_t message_find(const struct message *m, const char *name, uint32_t from);
