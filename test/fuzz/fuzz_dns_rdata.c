/* RDATA of every type, and the two message forms: no crash, and what parses as an answer goes
 * round. */
#include <assert.h>
#include <stdint.h>

#include "dns/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void round_trip(span in, struct arena *mem)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(1 << 20);
	struct dns_question *q;
	struct dns_answer *a, *again;
	size_t count, count2;

	dns_ask_get(in, mem, &q, &count);
	if (dns_answers_get(in, mem, &a, &count) < 0 || dns_answers_put(&b, a, count) < 0)
		return;
	assert(dns_answers_get(buf_span(&b), mem, &again, &count2) == 0);
	assert(count2 == count);
	for (size_t i = 0; i < count; i++)
		assert(again[i].n == a[i].n && span_eq(again[i].name, a[i].name) &&
		       again[i].status == a[i].status);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const enum dns_type types[] = { DNS_A,  DNS_NS,	DNS_CNAME, DNS_SOA, DNS_PTR,
					       DNS_MX, DNS_TXT, DNS_AAAA,  DNS_SRV, DNS_TLSA };
	struct arena mem;

	arena_init(&mem);
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct dns_record r;

		if (dns_record_parse(types[i], span_of(p, n), &mem, &r) == 0)
			assert(r.name.n <= 253 && r.text.n <= n);
	}
	round_trip(span_of(p, n), &mem);
	arena_done(&mem);
	return 0;
}
