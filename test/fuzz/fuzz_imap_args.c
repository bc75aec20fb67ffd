/* IMAP's argument parser on whole commands; sets are resolved and patterns matched as core does. */
#include <assert.h>
#include <stdint.h>

#include "imap/parse.h"
#include "imap/pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct arena mem;
	struct imap_args a;
	const char *why = NULL;
	arena_init(&mem);
	if (imap_parse(span_of(p, n), &mem, &a, &why)) {
		assert(a.cmd && a.tag.n);
		if (a.has_set && a.set.n) {
			struct imap_set s = imap_set_resolve(&a.set, 1000, &mem);
			for (size_t i = 1; i < s.n; i++)
				assert(s.r[i - 1].hi < s.r[i].lo);
			imap_set_has(&s, 7);
		}
		for (size_t i = 0; i < a.list.n; i++) {
			uint64_t budget = 1 << 20;
			imap_pattern_match(a.list.patterns[i], SPAN("INBOX/some/where"), &budget);
		}
	} else {
		assert(why);
	}
	arena_done(&mem);
	return 0;
}
