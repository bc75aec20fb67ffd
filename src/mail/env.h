/* What core's jobs work with: made once by role/core.c, passed as `sess->core`. */
#pragma once

#include "conf/conf.h"
#include "directory/directory.h"
#include "events/events.h"
#include "guard/guard.h"
#include "queue/queue.h"
#include "store/store.h"
#include "sys/pool.h"

struct core_env {
	struct pool *pool;
	struct directory *directory;
	struct store *store;
	struct queue *queue;
	struct events *events;
	struct guard *guard;
	struct poison *poison;
	struct sess_table *sessions;
	struct sasl_env *sasl;
	struct ask_table *asks; /* questions to `out` (sys/ask.h) */
	struct ask_table *keys_asks; /* questions to `keys` (tls/dkim_keys.h) */
	const char *spool_dir;
	/* The configuration now in force; take a reference for the length of a job. */
	struct conf *(*conf)(struct core_env *env); /* conf_unref() when done */
};
