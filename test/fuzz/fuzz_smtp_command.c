/* One command line.  What parses as a path must parse again to the same after it was written (round
 * trip), and nothing that passes may carry a control byte. */
#include <stdint.h>
#include <stdlib.h>

#include "smtp/lex.h"
#include "smtp/parse.h"
#include "smtp/xclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Everything is offered here. */
static const struct smtp_phase phase = {
	.tls = true, .submission = true, .authenticated = true, .hold = true
};

static void round_trip(const struct smtp_command *c, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf line = BUF_INIT(4096);
	struct smtp_command again;
	span args;

	buf_put_str(&line, c->rule->verb == SMTP_MAIL ? "MAIL FROM:<" : "RCPT TO:<");
	address_put(&line, &c->path);
	buf_put_str(&line, ">");
	const struct smtp_rule *r = smtp_rule_find(buf_span(&line), &args);
	if (r != c->rule || smtp_args_parse(r, args, &phase, mem, &again))
		abort();
	if (!span_eq(again.path.local, c->path.local) ||
	    !span_eq(again.path.domain, c->path.domain))
		abort();
}

static void check_terms(const struct smtp_command *c)
{
	if (c->priority < -9 || c->priority > 9 || c->by_seconds > 999999999 ||
	    c->by_seconds < -999999999 || (c->by_return && c->by_seconds < 1) ||
	    (c->hold_for && c->hold_until) || c->hold_for < 0 || c->hold_until < 0)
		abort();
}

static void check_harmless(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((uint8_t)s.p[i] < 32 || s.p[i] == 127)
			abort();
}

static void check_xclient(span args, struct arena *mem)
{
	struct smtp_xclient x;

	if (!smtp_xclient_parse(args, mem, &x))
		return;
	check_harmless(x.name);
	check_harmless(x.login);
	check_harmless(span_str(x.ip));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_(arena_donep) struct arena mem;
	struct smtp_command c;
	span line, args;
	size_t scanned = 0, used = 0;
	const struct smtp_rule *rule;

	arena_init(&mem);
	if (smtp_line_take(span_of(p, n), SMTP_LINE_MAX, &scanned, &line, &used) != SMTP_LINE_GOOD)
		return 0;
	rule = smtp_rule_find(line, &args);
	if (!rule || smtp_args_parse(rule, args, &phase, &mem, &c))
		return 0;
	if (rule->verb == SMTP_MAIL || rule->verb == SMTP_RCPT)
		round_trip(&c, &mem);
	if (rule->verb == SMTP_XCLIENT)
		check_xclient(c.text, &mem);
	check_terms(&c);
	check_harmless(c.envid);
	return 0;
}
