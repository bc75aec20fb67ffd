/* The account's schema.  A release may only add (a step with a higher version). */
#include "store/store_int.h"

/* mailbox.id is never used again, nor is body.id (made from the time, see body_new_id).
 * retired     the last UIDVALIDITY of names that a mailbox left (S2).
 * message     ordered by UID, so what arrived since a state of the mailbox is found by UID;
 * message_changed finds what changed since a modseq after it had arrived.  (An index of all would
 * cost every append a page.)
 * expunged    UIDs that went away, by modseq: patches views, answers VANISHED (RFC 7162).
 * body        the data is the last column, so that reading the others touches no overflow page.
 * shared      bodies with more than one message; all others have one.  Not a column of body:
 * changing it would write the whole body again. delivered   S4.   outbox  S6. */
static const struct db_migration steps[] = {
	{ 1, 1,
	  "CREATE TABLE mailbox("
	  " id INTEGER PRIMARY KEY AUTOINCREMENT,"
	  " name TEXT NOT NULL UNIQUE,"
	  " special INTEGER NOT NULL,"
	  " selectable INTEGER NOT NULL,"
	  " uidvalidity INTEGER NOT NULL,"
	  " uidnext INTEGER NOT NULL,"
	  " recent_from INTEGER NOT NULL,"
	  " modseq INTEGER NOT NULL,"
	  " messages INTEGER NOT NULL,"
	  " unseen INTEGER NOT NULL,"
	  " bytes INTEGER NOT NULL);"
	  "CREATE TABLE retired(name TEXT PRIMARY KEY, uidvalidity INTEGER NOT NULL) WITHOUT ROWID;"
	  "CREATE TABLE subscription(name TEXT PRIMARY KEY) WITHOUT ROWID;"
	  "CREATE TABLE message("
	  " mbox INTEGER NOT NULL, uid INTEGER NOT NULL,"
	  " flags INTEGER NOT NULL, keywords INTEGER NOT NULL, modseq INTEGER NOT NULL,"
	  " idate INTEGER NOT NULL, size INTEGER NOT NULL, body INTEGER NOT NULL,"
	  " changed INTEGER NOT NULL," /* 1: modseq is not that of the arrival */
	  " PRIMARY KEY(mbox, uid)) WITHOUT ROWID;"
	  "CREATE INDEX message_changed ON message(mbox, modseq) WHERE changed = 1;"
	  "CREATE TABLE expunged("
	  " mbox INTEGER NOT NULL, modseq INTEGER NOT NULL, uid INTEGER NOT NULL,"
	  " PRIMARY KEY(mbox, modseq, uid)) WITHOUT ROWID;"
	  "CREATE TABLE body("
	  " id INTEGER PRIMARY KEY,"
	  " format INTEGER NOT NULL," /* 0: the bytes as they are */
	  " is_blob INTEGER NOT NULL,"
	  " size INTEGER NOT NULL, header_size INTEGER NOT NULL,"
	  " trace BLOB NOT NULL,"
	  " envelope TEXT NOT NULL, body TEXT NOT NULL, bodystructure TEXT NOT NULL,"
	  " data BLOB);"
	  "CREATE TABLE shared(body INTEGER PRIMARY KEY, refs INTEGER NOT NULL);"
	  "CREATE TABLE delivered("
	  " key BLOB PRIMARY KEY, uid INTEGER NOT NULL, uidvalidity INTEGER NOT NULL) WITHOUT "
	  "ROWID;"
	  "CREATE TABLE keyword(bit INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE);"
	  "CREATE TABLE outbox("
	  " id INTEGER PRIMARY KEY AUTOINCREMENT, kind INTEGER NOT NULL, data BLOB NOT NULL);" },
};

const struct db_schema store_schema = { "account", steps, ARRAY_LEN(steps) };
