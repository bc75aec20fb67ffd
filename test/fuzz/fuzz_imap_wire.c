/* IMAP framing: any bytes, split anywhere, give the same steps; nothing beyond the input limit is
 * held. */
#include "wire_cut.h"

#include "imap/wire.h"
#include "sasl/offer.h"

static enum sess_mode mode(enum wire_step s, span group)
{
	return group.n && group.p[0] == SESS_ITEM_BODY_FOLLOWS && group.n % 2 ? SESS_MODE_LITERAL
									      : SESS_MODE_LINES;
}

static void run(span in, size_t piece, bool authenticated, struct buf *log)
{
	struct wire_env env = { .hostname = SPAN("mail.test"), .auth = SASL_BIT(PLAIN), .tls = true, .max_size = 1 << 20 };
	struct wire_park p = { .flags = authenticated ? IMAP_PARK_AUTHENTICATED : 0 };

	wire_cut_run(&imap_wire_ops, &env, p, mode, in, piece, log);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return wire_cut_compare(span_of(p, n), run);
}
