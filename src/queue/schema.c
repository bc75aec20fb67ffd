#include "queue/queue_int.h"

/* A lease is memory only: on disk its recipients are WAITING.  The body has its own table so that
 * listings do not read past it.  `once` are the keys of transfers that may be repeated. */
static const struct db_migration steps[] = {
	{ .version = 1,
	  .oldest_writer = 1,
	  .sql = "CREATE TABLE message(row INTEGER PRIMARY KEY, id BLOB NOT NULL, sender TEXT NOT "
		 "NULL,"
		 " account TEXT NOT NULL, envid TEXT NOT NULL, size INTEGER NOT NULL, flags "
		 "INTEGER NOT NULL,"
		 " accepted_at INTEGER NOT NULL, blob TEXT);"
		 "CREATE INDEX message_id ON message(id);"
		 "CREATE INDEX message_blob ON message(blob) WHERE blob IS NOT NULL;"
		 "CREATE TABLE body(message INTEGER PRIMARY KEY, data BLOB NOT NULL);"
		 "CREATE TABLE recipient(row INTEGER PRIMARY KEY, message INTEGER NOT NULL, "
		 "address TEXT NOT NULL,"
		 " route TEXT NOT NULL, original TEXT NOT NULL, notify INTEGER NOT NULL, key BLOB "
		 "NOT NULL,"
		 " state INTEGER NOT NULL, attempts INTEGER NOT NULL, next_at INTEGER NOT NULL,"
		 " fixed INTEGER NOT NULL, reply TEXT NOT NULL DEFAULT '', status TEXT NOT NULL "
		 "DEFAULT '',"
		 " remote TEXT NOT NULL DEFAULT '');"
		 "CREATE INDEX recipient_message ON recipient(message);"
		 "CREATE TABLE gone_key(row INTEGER PRIMARY KEY, key BLOB NOT NULL, address TEXT "
		 "NOT NULL);"
		 "CREATE TABLE once(key BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;" },
	{ .version = 2,
	  .oldest_writer = 1, /* which leaves the column alone: at worst a delay is told twice */
	  .sql = "ALTER TABLE recipient ADD COLUMN warned INTEGER NOT NULL DEFAULT 0;" },
	{ .version = 3,
	  .oldest_writer = 3, /* an older one would deliver what is held */
	  .sql = "ALTER TABLE recipient ADD COLUMN held INTEGER NOT NULL DEFAULT 0;" },
	{ .version = 4,
	  .oldest_writer = 4, /* an older one would send in clear what requires TLS */
	  .sql = "ALTER TABLE message ADD COLUMN deliver_by INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE message ADD COLUMN held_until INTEGER NOT NULL DEFAULT 0;" },
};

const struct db_schema queue_schema = { .name = "queue",
					.steps = steps,
					.n_steps = ARRAY_LEN(steps) };

/* The rows of a batch that was not acknowledged may be there afterwards or not; memory need not
 * know: a lease reads what is still waiting, and a message that was refused is at worst found by
 * the next start. */
int shard_healthy(struct shard *s)
{
	if (!db_poisoned(s->db))
		return 0;
	usec now = clock_wall(), at = atomic_load(&s->heal_at);
	if ((now < at && at - now <= SICK_DELAY) ||
	    !atomic_compare_exchange_strong(&s->heal_at, &at, now + SICK_DELAY))
		return ERR_SYNC;
	return db_reopen_copy(s->db) < 0 ? ERR_SYNC : 0;
}
