#include "pop3/commands.h"

#include "sasl/offer.h"

#define AUTHZ POP3_IN_AUTHORIZATION
#define TRANS POP3_IN_TRANSACTION

/* clang-format off */
const struct pop3_command pop3_commands[POP3_CMD_COUNT] = {
#define ROW(c, grammar, states, flags, lane) [POP3_##c] = { POP3_##c, #c, grammar, states, flags, lane }
	ROW(CAPA, "",   AUTHZ | TRANS, POP3_FRONT, LANE_INTERACTIVE),
	ROW(QUIT, "",   AUTHZ | TRANS, POP3_FRONT, LANE_INTERACTIVE),
	ROW(NOOP, "",   TRANS,         0,          LANE_INTERACTIVE),
	ROW(STLS, "",   AUTHZ,         0,          LANE_INTERACTIVE),
	ROW(USER, "t",  AUTHZ,         0,          LANE_INTERACTIVE),
	ROW(PASS, "t",  AUTHZ,         0,          LANE_AUTH),
	ROW(AUTH, "m",  AUTHZ,         0,          LANE_AUTH),
	ROW(STAT, "",   TRANS,         0,          LANE_INTERACTIVE),
	ROW(LIST, "N",  TRANS,         0,          LANE_INTERACTIVE),
	ROW(UIDL, "N",  TRANS,         0,          LANE_INTERACTIVE),
	ROW(RETR, "n",  TRANS,         0,          LANE_INTERACTIVE),
	ROW(TOP,  "nc", TRANS,         0,          LANE_INTERACTIVE),
	ROW(DELE, "n",  TRANS,         0,          LANE_INTERACTIVE),
	ROW(RSET, "",   TRANS,         0,          LANE_INTERACTIVE),
#undef ROW
};
/* clang-format on */

static const struct pop3_command *find(span name)
{
	for (size_t i = 0; i < POP3_CMD_COUNT; i++)
		if (span_ieq_str(name, pop3_commands[i].name))
			return &pop3_commands[i];
	return NULL;
}

static bool number(span *rest, uint64_t min, uint32_t *ret)
{
	uint64_t v;
	span s = span_cut(rest, ' ');
	if (!span_u64(s, UINT32_MAX, &v) || v < min)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool argument(char g, span *rest, struct pop3_args *ret)
{
	switch (g) {
	case 'N':
		return !rest->p || number(rest, 1, &ret->number);
	case 'n':
		return rest->p && number(rest, 1, &ret->number);
	case 'c':
		return rest->p && number(rest, 0, &ret->lines);
	case 't':
		ret->text = *rest;
		*rest = SPAN_NULL;
		return ret->text.n > 0;
	default:
		ret->text = span_cut(rest, ' ');
		if (rest->p)
			ret->initial = span_cut(rest, ' ');
		return ret->text.n > 0;
	}
}

bool pop3_parse(span line, struct pop3_args *ret, const char **ret_why)
{
	*ret = (struct pop3_args){ 0 };
	if (line.n < 2 || line.p[line.n - 1] != '\n' || line.p[line.n - 2] != '\r') {
		*ret_why = "Lines end with CRLF";
		return false;
	}
	span rest = span_sub(line, 0, line.n - 2);
	if (memchr(rest.p, 0, rest.n)) {
		*ret_why = "NUL in a command";
		return false;
	}
	ret->cmd = find(span_cut(&rest, ' '));
	if (!ret->cmd) {
		*ret_why = "Unknown command";
		return false;
	}
	for (const char *g = ret->cmd->grammar; *g; g++)
		if (!argument(*g, &rest, ret)) {
			*ret_why = "Bad or missing argument";
			return false;
		}
	if (rest.n) {
		*ret_why = "Too many arguments";
		return false;
	}
	return true;
}

void pop3_capa_put(struct buf *b, const struct sasl_channel *c, bool tls_available, bool transaction)
{
	buf_put_str(b, "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n");
	if (!transaction) {
		_cleanup_(buf_donep) struct buf offer = BUF_INIT(256);
		sasl_offer(&offer, c, " ", "");
		if (offer.n)
			buf_printf(b, "SASL%s\r\n", buf_cstr(&offer));
		if (sasl_password_usable(c) == SASL_USABLE)
			buf_put_str(b, "USER\r\n");
		if (!c->tls && tls_available)
			buf_put_str(b, "STLS\r\n");
	}
	buf_put_str(b, "IMPLEMENTATION Postrider\r\n");
}
