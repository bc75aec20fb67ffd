/* A hostile message's header (up to the first NUL) under the edits of a hostile filter (the rest:
 * kind, index, name, LF, value, NUL).  Properties: the new header has one empty line, at its end, no
 * bare CR or LF that was not there, and no more fields than were put in. */
#include <assert.h>
#include <stdint.h>

#include "filter/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static size_t fields(span header)
{
	struct header_field f;
	size_t at = 0, n = 0;

	while (header_next_field(header, &at, &f))
		n++;
	return n;
}

static size_t read_edits(span s, struct arena *mem, struct filter_edit *e, size_t max)
{
	size_t n = 0;

	while (s.n > 2 && n < max) {
		span one = span_cut(&s, 0);
		unsigned kind = one.n ? (unsigned char)one.p[0] % 3 : 0;
		uint32_t index = one.n > 1 ? (unsigned char)one.p[1] : 0;
		span value = span_from(one, 2), name = span_cut(&value, '\n');

		if (!header_name_valid(name))
			continue;
		e[n] = (struct filter_edit){ .kind = kind, .index = index, .name = name };
		if (value.n || kind != FILTER_CHANGE_HEADER)
			e[n].value = filter_header_value(value, index & 1, mem);
		n++;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf b = BUF_INIT(1 << 20);
	struct filter_edit edits[50];
	span rest = span_of(p, n), header = span_cut(&rest, 0);
	struct arena mem;
	size_t count;

	arena_init(&mem);
	header = span_sub(header, 0, header_size(header));
	if (span_find(header, '\n') != SPAN_NPOS || !header.n) {
		count = read_edits(rest, &mem, edits, ARRAY_LEN(edits));
		assert(filter_header_edit(header, edits, count, &b) == 0);
		assert(b.n >= 2 && span_eq(span_from(buf_span(&b), b.n - 2), SPAN("\r\n")));
		assert(fields(buf_span(&b)) <= fields(header) + count);
	}
	arena_done(&mem);
	buf_done(&b);
	return 0;
}
