/* DKIM and ARC: the input is a message; every name has the same key.  Also: what
 * Authentication-Results fields hold. */
#include <assert.h>
#include <stdint.h>

#include "trust/arc.h"
#include "trust/authres.h"
#include "trust/dkim.h"
#include "format/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const struct dns_answer *same_key(void *arg, span name, enum dns_type type)
{
	static struct dns_record record[2];
	static const struct dns_answer answer = {
		.status = DNS_OK, .type = DNS_TXT, .records = record, .n = 2
	};

	assert(trust_name_valid(name));
	record[0].text = SPAN("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=");
	record[1].text = *(const span *)arg;
	return &answer;
}

static void authres(const struct message *m, span text, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1 << 20);
	struct authres_item item[AUTHRES_MAX];
	size_t count, removed;
	span id;

	for (uint32_t at = 0;
	     (at = message_find(m, "Authentication-Results", at)) != MESSAGE_NO_FIELD; at++)
		authres_parse(m->field[at].value, mem, &id, item, &count);
	/* Nothing of ours is left after a removal. */
	if (authres_strip(text, SPAN("mx.test"), &b, &removed) == 0) {
		struct message rest;
		assert(message_parse(buf_span(&b), mem, &rest) == 0);
		assert(rest.n + removed >= m->n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	span text = span_of(p, n), key;
	const struct trust_lookup l = { .ask = same_key, .arg = &key };
	struct dkim_verdict dkim;
	struct arc_verdict arc;
	struct message m;

	if (n > 65536)
		return 0;
	arena_init(&mem);
	if (message_parse(text, &mem, &m) < 0)
		return 0;
	key = m.body; /* the second record: whatever the body is */
	assert(dkim_verify(&m, 1700000000, &l, &mem, &dkim) == 0);
	assert(dkim.n <= DKIM_SIGNATURES_MAX && dkim.n <= dkim.found);
	assert(arc_verify(&m, &l, &mem, &arc) == 0);
	authres(&m, text, &mem);
	return 0;
}
