#include "imap/commands.h"

#include "sasl/offer.h"

#define ANY	 (IMAP_IN_NONAUTH | IMAP_IN_AUTH | IMAP_IN_SELECTED)
#define LOGGED	 (IMAP_IN_AUTH | IMAP_IN_SELECTED)
#define NONAUTH	 IMAP_IN_NONAUTH
#define SELECTED IMAP_IN_SELECTED

/* clang-format off */
const struct imap_command imap_commands[IMAP_CMD_COUNT] = {
#define ROW(c, grammar, states, flags, lane) [IMAP_##c] = { IMAP_##c, #c, grammar, states, flags, lane }
	ROW(CAPABILITY,   "",   ANY,      IMAP_FRONT, LANE_INTERACTIVE),
	ROW(NOOP,         "",   ANY,      IMAP_FRONT, LANE_INTERACTIVE),
	ROW(LOGOUT,       "",   ANY,      IMAP_FRONT, LANE_INTERACTIVE),
	ROW(ID,           "i",  ANY,      0, LANE_INTERACTIVE),
	ROW(STARTTLS,     "",   NONAUTH,  0, LANE_INTERACTIVE),
	ROW(LOGIN,        "aa", NONAUTH,  0, LANE_AUTH),
	ROW(AUTHENTICATE, "ar", NONAUTH,  0, LANE_AUTH),
	ROW(ENABLE,       "e",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(SELECT,       "m",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(EXAMINE,      "m",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(CREATE,       "mu", LOGGED,   0, LANE_INTERACTIVE),
	ROW(DELETE,       "m",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(RENAME,       "mm", LOGGED,   0, LANE_INTERACTIVE),
	ROW(SUBSCRIBE,    "m",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(UNSUBSCRIBE,  "m",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(LIST,         "p",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(LSUB,         "p",  LOGGED,   0, LANE_INTERACTIVE),
	ROW(STATUS,       "mt", LOGGED,   0, LANE_INTERACTIVE),
	ROW(APPEND,       "mn", LOGGED,   0, LANE_DELIVERY),
	ROW(NAMESPACE,    "",   LOGGED,   0, LANE_INTERACTIVE),
	ROW(IDLE,         "",   LOGGED,   0, LANE_INTERACTIVE),
	ROW(CHECK,        "",   SELECTED, 0, LANE_INTERACTIVE),
	ROW(CLOSE,        "",   SELECTED, 0, LANE_INTERACTIVE),
	ROW(UNSELECT,     "",   SELECTED, 0, LANE_INTERACTIVE),
	ROW(EXPUNGE,      "S",  SELECTED, IMAP_NEEDS_WRITE | IMAP_HAS_UID, LANE_INTERACTIVE),
	ROW(SEARCH,       "k",  SELECTED, IMAP_HOLDS_SEQS | IMAP_HAS_UID, LANE_INTERACTIVE),
	ROW(FETCH,        "sf", SELECTED, IMAP_HOLDS_SEQS | IMAP_HAS_UID, LANE_INTERACTIVE),
	ROW(STORE,        "so", SELECTED, IMAP_HOLDS_SEQS | IMAP_HAS_UID | IMAP_NEEDS_WRITE, LANE_INTERACTIVE),
	ROW(COPY,         "sm", SELECTED, IMAP_HAS_UID, LANE_INTERACTIVE),
	ROW(MOVE,         "sm", SELECTED, IMAP_HAS_UID | IMAP_NEEDS_WRITE, LANE_INTERACTIVE),
#undef ROW
};
/* clang-format on */

const struct imap_command *imap_command_find(span name)
{
	for (size_t i = 0; i < IMAP_CMD_COUNT; i++)
		if (span_ieq_str(name, imap_commands[i].name))
			return &imap_commands[i];
	return NULL;
}

void imap_capability_put(struct buf *b, bool authenticated, const struct sasl_channel *c,
			 bool tls_available)
{
	buf_put_str(b, "IMAP4rev1 LITERAL+ ID ENABLE");
	if (authenticated) {
		buf_put_str(b, " IDLE NAMESPACE CHILDREN UNSELECT UIDPLUS MOVE SPECIAL-USE "
			       "CREATE-SPECIAL-USE");
		return;
	}
	buf_put_str(b, " SASL-IR");
	if (!c->tls && tls_available)
		buf_put_str(b, " STARTTLS");
	if (sasl_password_usable(c) != SASL_USABLE)
		buf_put_str(b, " LOGINDISABLED");
	sasl_offer(b, c, " AUTH=", "");
}
