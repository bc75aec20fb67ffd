/* SPF: the input is a zone file, whose name "x.test" is asked about.  The verdict must be the same
 * when all answers are at hand and when they come in rounds. */
#include <assert.h>
#include <stdint.h>

#include "trust/spf.h"
#include "trust/spf_parse.h"
#include "trust/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void in_rounds(const struct spf_input *in, struct trust_zone *z, enum trust_result want)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	const struct trust_lookup *l = trust_zone_lookup(z);
	struct spf_verdict v;
	size_t missing;

	arena_init(&mem);
	_cleanup_(trust_answers_freep) struct trust_answers *t = trust_answers_new(&mem);
	while (spf_check(in, trust_answers_lookup(t), &mem, &v) == ERR_AGAIN) {
		const struct dns_question *q = trust_answers_missing(t, &missing);
		assert(missing > 0);
		for (size_t i = 0; i < missing; i++)
			trust_answers_add(t, l->ask(l->arg, q[i].name, q[i].type));
	}
	assert(v.result == want);
	assert(v.explanation.n <= SPF_EXPLAIN_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	_cleanup_(trust_zone_freep) struct trust_zone *z = NULL;
	static const char *const addresses[] = { "192.0.2.1", "2001:db8::1" };
	struct spf_input in = { .helo = SPAN("helo.x.test"), .from = SPAN("some.user@x.test") };
	struct spf_verdict v;
	struct spf_record r;
	span at;

	if (n > 8192)
		return 0;
	arena_init(&mem);
	if (spf_is_record(span_of(p, n)))
		spf_parse(span_of(p, n), &mem, &r, &at);
	if (trust_zone_parse(span_of(p, n), &z, NULL) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		sock_parse_ip(span_str(addresses[i]), 0, &in.ip);
		spf_check(&in, trust_zone_lookup(z), &mem, &v);
		in_rounds(&in, z, v.result);
	}
	return 0;
}
