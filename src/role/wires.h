/* The protocols front can frame. */
#pragma once

#include "sys/session.h"

extern const struct wire_ops *const front_wires[SESS_PROTO_COUNT];

/* Does a SESS_PARK with these FLAGS end the phase in which preauth_seconds rules? */
bool front_established(enum sess_proto proto, uint32_t park_flags);
