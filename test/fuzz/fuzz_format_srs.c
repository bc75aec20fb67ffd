/* SRS: reading any address ends in one of the results; what is written fits a path, reads back as the
 * sender, and does not read with another key. */
#include <assert.h>

#include "format/srs.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void mac(void *arg, unsigned key, span in, uint8_t ret[32])
{
	uint64_t h = *(uint64_t *)arg + key;

	for (size_t i = 0; i < in.n; i++)
		h = (h ^ (uint8_t)in.p[i]) * UINT64_C(1099511628211);
	for (size_t i = 0; i < 32; i++, h = h * UINT64_C(6364136223846793005) + 1)
		ret[i] = (uint8_t)(h >> 56);
}

/* A key under which every hash is the same: all addresses are well signed, so parsing goes on. */
static void blind(void *arg, unsigned key, span in, uint8_t ret[32])
{
	memset(ret, 0, 32);
}

static void check_reverse(const struct srs_keys *k, const struct address *a, struct arena *mem)
{
	struct address out = { 0 };
	enum srs_result r = srs_reverse(k, a, 0, mem, &out);

	assert((r == SRS_NONE) == !srs_is(a->local));
	assert(r != SRS_TOO_LONG);
	if (r == SRS_OK)
		assert(out.local.n <= 64 && out.domain.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct arena mem;
	struct address a, out, back;
	uint64_t seed = 7;
	struct srs_keys keys = { mac, &seed, 2 }, any = { blind, NULL, 1 };

	arena_init(&mem);
	if (address_parse(span_of(p, MIN(n, 400)), ADDRESS_ALLOW_UTF8, &mem, &a) == ADDRESS_OK) {
		check_reverse(&keys, &a, &mem);
		check_reverse(&any, &a, &mem);
		if (srs_forward(&keys, &a, SPAN("ours.test"), 0, &mem, &out) == SRS_OK) {
			assert(out.local.n <= 64 && srs_is(out.local));
			enum srs_result r = srs_reverse(&keys, &out, 0, &mem, &back);

			assert(r == SRS_OK || srs_is(a.local) || a.domain.p[0] == '[');
			if (r == SRS_OK && !srs_is(a.local))
				assert(span_eq(back.local, a.local) &&
				       span_eq(back.domain, a.domain));
		}
	}
	arena_done(&mem);
	return 0;
}
