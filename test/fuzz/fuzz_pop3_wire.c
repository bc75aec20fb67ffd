/* POP3 framing and parsing: any bytes, split anywhere, give the same steps. */
#include "wire_cut.h"

#include "pop3/commands.h"
#include "pop3/wire.h"
#include "sasl/offer.h"

static enum sess_mode mode(enum wire_step s, span group)
{
	enum sess_mode m = SESS_MODE_LINES;
	struct cursor c = cursor_of(group);
	struct pop3_args a;
	const char *why;
	uint8_t flags;
	span line;

	while (s == WIRE_FORWARD && sess_item_next(&c, &flags, &line))
		m = pop3_parse(line, &a, &why) && a.cmd->id == POP3_AUTH ? SESS_MODE_RAW
									 : SESS_MODE_LINES;
	return m;
}

static void run(span in, size_t piece, bool authenticated, struct buf *log)
{
	struct wire_env env = { .hostname = SPAN("mail.test"), .auth = SASL_BIT(PLAIN), .tls = true };
	struct wire_park p = { .flags = authenticated ? POP3_PARK_AUTHENTICATED : 0 };

	wire_cut_run(&pop3_wire_ops, &env, p, mode, in, piece, log);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	return wire_cut_compare(span_of(p, n), run);
}
