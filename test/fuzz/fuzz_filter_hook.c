/* What an HTTP hook answers: a result that core takes, whatever it is. */
#include <assert.h>
#include <stdint.h>

#include "filter/hook.h"
#include "sys/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf b = BUF_INIT(CHANNEL_MAX);
	struct filter_result r, again;
	struct arena mem;

	arena_init(&mem);
	hook_answer_parse(span_of(p, n), &mem, &r);
	assert(r.action <= FILTER_FAILED && r.n_edits <= FILTER_EDITS_MAX);
	assert(filter_result_put(&b, &r) == 0);
	assert(filter_result_get(buf_span(&b), &mem, &again) == 0);
	assert(again.action == r.action && again.n_edits == r.n_edits);
	/* What out sends is not trusted either. */
	(void)filter_result_get(span_of(p, n), &mem, &again);
	arena_done(&mem);
	buf_done(&b);
	return 0;
}
