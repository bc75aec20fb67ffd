/* POP3's core half (RFC 1939, 2449, 2595, 5034). */
#pragma once

#include "sys/session.h"

extern const struct sess_ops pop3_sess_ops;
