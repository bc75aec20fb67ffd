/* DMARC: the input's first line is a record of org.test, the rest a message. */
#include <assert.h>
#include <stdint.h>

#include "trust/dmarc.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const struct dns_answer *one_record(void *arg, span name, enum dns_type type)
{
	static struct dns_record record;
	static const struct dns_answer none = { .status = DNS_NODATA },
				       one = { .status = DNS_OK, .records = &record, .n = 1 };

	assert(trust_name_valid(name));
	record.text = *(const span *)arg;
	return span_eq_str(name, "_dmarc.org.test") ? &one : &none;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_(arena_donep) struct arena mem = { 0 };
	span text = span_of(p, n), record = span_cut(&text, '\n');
	const struct trust_lookup l = { .ask = one_record, .arg = &record };
	const struct spf_verdict spf = { .result = TRUST_PASS, .domain = SPAN("mail.org.test") };
	struct dmarc_verdict v;
	struct dmarc_record r;
	struct message m;

	arena_init(&mem);
	if (n > 65536 || message_parse(text, &mem, &m) < 0)
		return 0;
	assert(dmarc_check(&m, &spf, NULL, &l, &mem, &v) == 0);
	assert((v.result == TRUST_PERMERROR) == (v.author.n == 0));
	if (v.result == TRUST_FAIL || v.result == TRUST_PASS)
		assert(v.record_domain.n);
	if (dmarc_parse(record, &r) == 0)
		assert(r.psd == 'y' || r.psd == 'n' || r.psd == 'u');
	return 0;
}
