/* PROXY headers: the answer does not depend on how the octets arrive, and a reader that takes no
 * more than it is told to never takes an octet of what follows. */
#include <assert.h>

#include "format/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, MIN(n, (size_t)2 * PROXY_MAX));
	struct proxy_header all = { 0 }, part = { 0 };
	size_t used, more, have = 0, piece = n ? 1 + p[n - 1] % 40 : 1;
	enum proxy_step whole = proxy_parse(in, &used, &all), step;
	for (;;) {
		step = proxy_parse(span_sub(in, 0, have), &more, &part);
		if (step != PROXY_MORE || have == in.n)
			break;
		assert(more > 0);
		have += MIN(MIN(piece, more), in.n - have);
		if (whole == PROXY_DONE)
			assert(have <= used);
	}
	assert(step == whole);
	if (whole == PROXY_DONE) {
		assert(used == more && used <= in.n && used <= PROXY_MAX);
		assert(memcmp(&all, &part, sizeof(all)) == 0);
		assert(proxy_begins(in) == PROXY_DONE);
		/* what follows makes no difference */
		assert(proxy_parse(span_sub(in, 0, used), &more, &part) == PROXY_DONE);
		assert(used == more);
	}
	return 0;
}
