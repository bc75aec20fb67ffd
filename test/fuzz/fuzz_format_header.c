/* Headers and the defect scan: fields tile the header, look-ups agree with reading in order, the
 * scan gives the same result however the bytes are cut, encoded text decodes to itself. */
#include <assert.h>

#include "format/check.h"
#include "format/header.h"
#include "format/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void check_scan(span m, size_t step)
{
	struct message_facts f;
	struct message_scan s;
	message_check(m, &f);
	message_scan_init(&s);
	for (size_t i = 0; i < m.n; i += step)
		message_scan_feed(&s, span_sub(m, i, step));
	message_scan_end(&s);
	assert(s.defects == (f.defects & ~(unsigned)MESSAGE_BAD_HEADER));
	assert(f.header_size == header_size(m));
}

static void check_words(span text, struct arena *mem)
{
	span decoded = header_decode_words(text, 1000, mem);
	assert(decoded.n <= 1000 && utf8_valid(decoded));
	struct buf b = BUF_INIT(1 << 20);
	header_encode_text(&b, decoded);
	bool ascii = b.n < 2 || memcmp(b.p, "=?", 2) != 0;
	if (!ascii)
		assert(span_eq(header_decode_words(buf_span(&b), 4000, mem), decoded));
	buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1)
		return 0;
	struct arena mem;
	arena_init(&mem);
	span m = span_of(p + 1, n - 1);
	struct header_field f;
	size_t at = 0, from = 0;
	bool bad = false;
	while (header_next(m, &at, &f, &bad)) {
		assert(f.raw.p == m.p + from && from + f.raw.n == at);
		assert(header_name_valid(f.name));
		span value = header_unfold(f.value, &mem);
		assert(span_find(value, '\n') == SPAN_NPOS && span_find(value, '\r') == SPAN_NPOS);
		check_words(f.value, &mem);
		size_t id_at = 0;
		for (span id; header_msgid_next(f.value, &id_at, &id);)
			assert(id.n >= 3 && id.p[0] == '<' && id.p[id.n - 1] == '>');
		from = at;
	}
	if (!bad)
		assert(at == header_size(m));
	check_scan(m, 1 + p[0] % 130);
	arena_done(&mem);
	return 0;
}
