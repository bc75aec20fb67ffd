/* Dates: what was read is written so that it reads as the same instant. */
#include <assert.h>

#include "format/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	span in = span_of(p, n);
	struct buf b = BUF_INIT(100);
	usec at, again;
	int zone, zone_again;
	if (date_parse(in, &at, &zone) == 0 && date_put(&b, at, zone) == 0) {
		assert(date_parse(buf_span(&b), &again, &zone_again) == 0);
		assert(again == at && zone_again == zone);
	}
	buf_reset(&b);
	if (date_imap_parse(in, &at, &zone) == 0 && date_imap_put(&b, at, zone) == 0) {
		assert(date_imap_parse(buf_span(&b), &again, &zone_again) == 0);
		assert(again == at && zone_again == zone);
	}
	date_imap_day(in, &at);
	buf_done(&b);
	return 0;
}
