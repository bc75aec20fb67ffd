#include "events/events.h"

#include <assert.h>
#include <stdatomic.h>

static _Atomic uint64_t counters[COUNT_MAX];

static const char *const names[COUNT_MAX] = {
	[COUNT_SESSIONS] = "sessions",
	[COUNT_SMTP_ACCEPTED] = "smtp_accepted",
	[COUNT_SMTP_REJECTED] = "smtp_rejected",
	[COUNT_DELIVERED_LOCAL] = "delivered_local",
	[COUNT_DELIVERED_REMOTE] = "delivered_remote",
	[COUNT_DEFERRED] = "deferred",
	[COUNT_BOUNCED] = "bounced",
	[COUNT_AUTH_OK] = "auth_ok",
	[COUNT_AUTH_FAILED] = "auth_failed",
	[COUNT_POISON] = "poison",
	[COUNT_LOOPS] = "loops",
	[COUNT_REFUSED_LOAD] = "refused_load",
	[COUNT_REFUSED_RATE] = "refused_rate",
	[COUNT_REFUSED_BANNED] = "refused_banned",
	[COUNT_EARLY_TALKERS] = "early_talkers",
	[COUNT_PROXY_ERRORS] = "proxy_errors",
	[COUNT_MEMORY_CLOSED] = "memory_closed",
};

void count_add(enum counter c, uint64_t n)
{
	assert(c >= 0 && c < COUNT_MAX);
	atomic_fetch_add_explicit(&counters[c], n, memory_order_relaxed);
}

uint64_t count_get(enum counter c)
{
	assert(c >= 0 && c < COUNT_MAX);
	return atomic_load_explicit(&counters[c], memory_order_relaxed);
}

const char *count_name(enum counter c)
{
	assert(c >= 0 && c < COUNT_MAX && names[c]);
	return names[c];
}
