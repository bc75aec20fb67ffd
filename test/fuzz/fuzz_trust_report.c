/* Reports of strangers: whatever the bytes are, it ends, and sums agree with rows. */
#include <assert.h>

#include "format/xml.h"
#include "trust/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf mended = BUF_INIT(6 * n + 16), again = BUF_INIT(36 * n + 16);
	struct err_info info = { 0 };
	struct dmarc_report d;
	struct tls_report t;
	struct arena mem;
	span in = span_of(p, n);

	if (n > 1 << 16)
		return 0;
	arena_init(&mem);
	if (dmarc_report_parse(in, &mem, &d, &info) == 0) {
		uint64_t sum = 0;
		for (const struct dmarc_row *r = d.rows; r; r = r->next)
			sum += r->count;
		assert(sum == d.messages && d.passed <= d.messages);
	}
	(void)tls_report_parse(in, &mem, &t, &info);
	if (xml_mend(in, &mended) == 0) { /* once is enough */
		assert(xml_mend(buf_span(&mended), &again) == 0);
		assert(span_eq(buf_span(&mended), buf_span(&again)));
	}
	arena_done(&mem);
	buf_done(&mended);
	buf_done(&again);
	return 0;
}
