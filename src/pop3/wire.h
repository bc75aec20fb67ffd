/* POP3's front half (RFC 1939, 2449, 2595): framing, greeting, CAPA, QUIT before authentication.
 * Pure. */
#pragma once

#include "sys/session.h"

extern const struct wire_ops pop3_wire_ops;

#define POP3_PARK_AUTHENTICATED 1u
