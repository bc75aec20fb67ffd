/* Addresses: what is accepted is written so that it reads as the same; lists keep their limits and
 * their groups balanced. */
#include <assert.h>

#include "format/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_path(span in, struct arena *mem)
{
	struct address a, again;
	size_t used;
	const unsigned flags = ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_NULL |
			       ADDRESS_ALLOW_BARE_POSTMASTER;
	if (address_parse_path(in, flags, mem, &a, &used) != ADDRESS_OK)
		return;
	assert(used <= in.n && in.p[used - 1] == '>');
	assert(a.local.n <= 64 && a.domain.n <= 255);
	span text = address_text(&a, mem);
	assert(address_parse(text, flags, mem, &again) == ADDRESS_OK);
	assert(span_eq(a.local, again.local) && span_eq(a.domain, again.domain) &&
	       a.utf8 == again.utf8);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct arena mem;
	arena_init(&mem);
	span in = span_of(p, n);
	check_path(in, &mem);
	struct mailbox_address list[8];
	size_t bad, max = n % 9, k = address_list_parse(in, &mem, list, max, &bad);
	assert(k <= max);
	bool group = false;
	for (size_t i = 0; i < k; i++) {
		if (list[i].kind == MAILBOX_ADDR)
			continue;
		assert(group == (list[i].kind == MAILBOX_GROUP_END));
		group = !group;
	}
	assert(!group);
	arena_done(&mem);
	return 0;
}
