/* SCRAM's client messages: what is read lies within the input and makes it up again. */
#include <assert.h>

#include "sasl/scram_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, n);
	struct scram_first f;
	struct scram_final last;
	struct buf name = BUF_INIT(n + 1);

	if (scram_first_parse(in, &f)) {
		assert(f.gs2.n + f.bare.n == n && f.gs2.p == in.p);
		assert(f.gs2.p[f.gs2.n - 1] == ',' && span_starts(f.bare, SPAN("n=")));
		assert((f.flag == 'p') == (f.binding.n > 0));
		assert(f.name.n && f.nonce.n && f.nonce.n <= SCRAM_NONCE_MAX);
		if (scram_name_decode(&name, f.name))
			assert(name.n <= f.name.n);
	}
	if (scram_final_parse(in, &last)) {
		assert(last.without_proof.n < n && last.nonce.n);
		assert(span_find(last.proof, ',') == SPAN_NPOS);
	}
	buf_done(&name);
	return 0;
}
