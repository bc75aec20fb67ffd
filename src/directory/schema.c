#include "directory/directory_int.h"

/* `name` is P1 in the database's own words: one primary key over accounts and aliases. */
static const struct db_migration steps[] = {
	{ .version = 1,
	  .oldest_writer = 1,
	  .sql = "CREATE TABLE domain(name TEXT PRIMARY KEY, catch_all TEXT, from_policy INTEGER "
		 "NOT NULL,"
		 " subaddress INTEGER NOT NULL) WITHOUT ROWID;"
		 "CREATE TABLE name(address TEXT PRIMARY KEY, domain TEXT NOT NULL REFERENCES "
		 "domain(name))"
		 " WITHOUT ROWID;"
		 "CREATE TABLE account(id TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE "
		 "REFERENCES name(address),"
		 " generation INTEGER NOT NULL, quota_bytes INTEGER NOT NULL, suspended INTEGER "
		 "NOT NULL,"
		 " from_policy INTEGER NOT NULL) WITHOUT ROWID;"
		 "CREATE TABLE alias_target(address TEXT NOT NULL REFERENCES name(address),"
		 " position INTEGER NOT NULL, target TEXT NOT NULL, PRIMARY KEY(address, "
		 "position)) WITHOUT ROWID;"
		 "CREATE TABLE credential(account TEXT PRIMARY KEY, hash TEXT, imported INTEGER "
		 "NOT NULL,"
		 " scram_iterations INTEGER NOT NULL, scram_salt BLOB, stored_key BLOB, server_key "
		 "BLOB)"
		 " WITHOUT ROWID;"
		 "CREATE TABLE secret(what TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;" },
	/* Routing: a release without it writes rows that mean what they meant. */
	{ .version = 2,
	  .oldest_writer = 1,
	  .sql = "ALTER TABLE domain ADD COLUMN alias_of TEXT NOT NULL DEFAULT '';"
		 "ALTER TABLE domain ADD COLUMN unknown_to TEXT NOT NULL DEFAULT '';"
		 "ALTER TABLE domain ADD COLUMN known_only INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE name ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
		 "ALTER TABLE name ADD COLUMN senders INTEGER NOT NULL DEFAULT 0;" },
	/* An older release would change a password and leave the verifier of the old one behind. */
	{ .version = 3,
	  .oldest_writer = 3,
	  .sql = "ALTER TABLE domain ADD COLUMN scram INTEGER NOT NULL DEFAULT 1;"
		 "ALTER TABLE account ADD COLUMN app_only INTEGER NOT NULL DEFAULT 0;"
		 "CREATE TABLE scram(account TEXT NOT NULL, hash INTEGER NOT NULL,"
		 " iterations INTEGER NOT NULL, salt BLOB NOT NULL, stored_key BLOB NOT NULL,"
		 " server_key BLOB NOT NULL, PRIMARY KEY(account, hash)) WITHOUT ROWID;"
		 "INSERT INTO scram SELECT account, 1, scram_iterations, scram_salt, stored_key,"
		 " server_key FROM credential WHERE scram_iterations > 0;"
		 "CREATE TABLE app_password(account TEXT NOT NULL, name TEXT NOT NULL,"
		 " mac BLOB NOT NULL UNIQUE, scope INTEGER NOT NULL, created INTEGER NOT NULL,"
		 " expires INTEGER NOT NULL, used INTEGER NOT NULL, peer TEXT NOT NULL,"
		 " PRIMARY KEY(account, name)) WITHOUT ROWID;" },
	{ .version = 4,
	  .oldest_writer = 3,
	  .sql = "CREATE TABLE dkim_key(domain TEXT NOT NULL, selector TEXT NOT NULL,"
		 " type INTEGER NOT NULL, state INTEGER NOT NULL, changed INTEGER NOT NULL,"
		 " PRIMARY KEY(domain, selector)) WITHOUT ROWID;" },
};

const struct db_schema directory_schema = { .name = "directory",
					    .steps = steps,
					    .n_steps = ARRAY_LEN(steps) };
