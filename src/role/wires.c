#include "role/wires.h"

#include "imap/wire.h"
#include "pop3/wire.h"
#include "smtp/wire.h"

const struct wire_ops *const front_wires[SESS_PROTO_COUNT] = {
	[SESS_PROTO_SMTP] = &smtp_wire_ops,
	[SESS_PROTO_SUBMISSION] = &submission_wire_ops,
	[SESS_PROTO_IMAP] = &imap_wire_ops,
	[SESS_PROTO_POP3] = &pop3_wire_ops,
	[SESS_PROTO_LOCAL] = &local_wire_ops,
	[SESS_PROTO_LMTP] = &lmtp_wire_ops,
};

bool front_established(enum sess_proto proto, uint32_t park_flags)
{
	switch (proto) {
	case SESS_PROTO_LMTP:
	case SESS_PROTO_SMTP: /* nobody authenticates; a sender that core has talked to is served */
	case SESS_PROTO_LOCAL:
		return true;
	case SESS_PROTO_SUBMISSION:
		return park_flags & SMTP_PARK_AUTHENTICATED;
	case SESS_PROTO_IMAP:
		return park_flags & IMAP_PARK_AUTHENTICATED;
	case SESS_PROTO_POP3:
		return park_flags & POP3_PARK_AUTHENTICATED;
	case SESS_PROTO_COUNT:
		break;
	}
	return false;
}
