/* directory: domains, accounts, aliases, credentials.  One database, DATA/directory.db.
 *
 * Invariants
 *  P1  An address (local@domain, normalised) names at most one of: account, alias.
 *  P2  A credential is stored only as argon2id (libsodium), an imported crypt(3) hash, a SCRAM verifier, or (app
 *      passwords, which are random) a keyed hash.
 *  P3  Unknown user and wrong password cost the same time and give the same answer.
 *  P4  A change bumps the account's generation: sessions and caches of an older one are not valid. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/clock.h"
#include "format/address.h"
#include "tls/hash.h"
#include "tls/sign.h"

struct directory;
int directory_open(const char *path, struct directory **ret, struct err_info *info);
void directory_close(struct directory *d);

#define ACCOUNT_ID_LEN 16 /* lower-case hex */

enum from_policy { FROM_DEFAULT, FROM_OWNED, FROM_ANY };

struct directory_account {
	char id[ACCOUNT_ID_LEN + 1];
	span address;        /* primary "local@domain" */
	uint64_t generation;
	uint64_t quota_bytes; /* 0: none */
	bool suspended;
	bool app_only;       /* the main password opens no mail protocol: app passwords do */
	enum from_policy from; /* submission.from override; FROM_DEFAULT: the domain's, then the config's */
};
struct directory_domain {
	span name;           /* A-labels, lower case */
	span catch_all;      /* address or empty */
	enum from_policy from;
	bool subaddress;     /* '+' splits (default true) */
	span alias_of;       /* all its addresses are those of this domain of ours; or empty */
	span unknown_to;     /* where mail for addresses goes that nobody has here: "mx" (backup MX) or a queue route
	                      * such as "smtp:[old]:25"; empty: such mail is refused.  The text is the caller's to check. */
	bool known_only;     /* with unknown_to: only for addresses that are listed as an alias to themselves */
	bool scram;          /* SCRAM verifiers are made (default true); false removes those there are */
};
/* Who may send to an alias; one that asks is what people call a group or list. */
enum alias_senders { SENDERS_ANYONE, SENDERS_MEMBERS, SENDERS_AUTHENTICATED };
struct directory_alias {
	span address;        /* "info@domain"; with one '*' in the local part a pattern: "sales-*@domain", "*@domain" */
	span *targets;       /* addresses, local or remote */
	size_t n_targets;
	enum alias_senders senders;
	int priority;        /* of a pattern: higher ones are tried first; 0 for all others and "*@domain" */
};
#define DIRECTORY_PATTERNS_MAX 256 /* of one domain */
#define DIRECTORY_PRIORITY_MAX 1000

/* Changes; INFO holds a sentence for the admin.  Addresses are text, normalised inside.
 * ERR_EXIST, ERR_NOENT, ERR_INVAL. */
int directory_domain_add(struct directory *d, span domain, struct err_info *info);
/* The same with all of V in one commit. */
int directory_domain_make(struct directory *d, const struct directory_domain *v, struct err_info *info);
/* Sets all but the name (V->name is ignored).  An alias domain has no names, catch-all or unknown_to of its own, and
 * leads to a domain that is none. */
int directory_domain_set(struct directory *d, span domain, const struct directory_domain *v, struct err_info *info);
int directory_domain_remove(struct directory *d, span domain, struct err_info *info); /* only when empty, and no alias domain leads to it */
/* PASSWORD may be empty: no login yet.  RET_ID: the new account's id (store/account_create is the caller's). */
int directory_account_add(struct directory *d, span address, span password, char ret_id[ACCOUNT_ID_LEN + 1], struct err_info *info);
/* The same under an id of directory_account_id(), so that the folder can be there before the row: a crash between
 * them leaves a folder that nobody has, never an account without one. */
int directory_account_add_as(struct directory *d, const char id[ACCOUNT_ID_LEN + 1], span address, span password, struct err_info *info);
void directory_account_id(char ret_id[ACCOUNT_ID_LEN + 1]);
/* Could ADDRESS be added (valid, its domain ours, free)? */
int directory_address_free(struct directory *d, span address, struct err_info *info);
int directory_account_remove(struct directory *d, span address, char ret_id[ACCOUNT_ID_LEN + 1], struct err_info *info);
/* Also makes the SCRAM verifier.  An empty password is ERR_INVAL; NUL bytes and > 1,024 bytes too. */
int directory_account_passwd(struct directory *d, span address, span password, struct err_info *info);
/* A crypt(3) string of any scheme libxcrypt knows ("$6$...", "$2b$...", "$y$..."), or "$argon2id$...", with or without
 * a "{SCHEME}" before it.  The first good plain login replaces it by our own hash and a SCRAM verifier. */
int directory_account_import_hash(struct directory *d, span address, span crypt_hash, struct err_info *info);
int directory_account_set_from(struct directory *d, span address, enum from_policy p, struct err_info *info);
int directory_account_set_suspended(struct directory *d, span address, bool suspended, struct err_info *info); /* no login, 5.2.1 */
int directory_account_set_app_only(struct directory *d, span address, bool app_only, struct err_info *info);
int directory_account_set_quota(struct directory *d, span address, uint64_t bytes, struct err_info *info);      /* 0: none */
int directory_alias_add(struct directory *d, span address, const span *targets, size_t n, struct err_info *info);
/* The same with all of V; _set replaces an alias that is there. */
int directory_alias_make(struct directory *d, const struct directory_alias *v, struct err_info *info);
int directory_alias_set(struct directory *d, const struct directory_alias *v, struct err_info *info);
int directory_alias_remove(struct directory *d, span address, struct err_info *info);

/* Reads; results in MEM. */
int directory_domain_get(struct directory *d, span domain, struct arena *mem, struct directory_domain *ret);
int directory_account_get(struct directory *d, span address, struct arena *mem, struct directory_account *ret);
int directory_alias_get(struct directory *d, span address, struct arena *mem, struct directory_alias *ret);
int directory_account_by_id(struct directory *d, span id, struct arena *mem, struct directory_account *ret);
int directory_domains(struct directory *d, struct arena *mem, struct directory_domain **ret, size_t *n);
int directory_accounts(struct directory *d, span domain_or_empty, struct arena *mem, struct directory_account **ret, size_t *n);
int directory_aliases(struct directory *d, span domain_or_empty, struct arena *mem, struct directory_alias **ret, size_t *n);

/* What an envelope recipient is here.  Served from an in-memory snapshot: no disk on the hot path. */
enum directory_kind {
	DIRECTORY_NOT_LOCAL,   /* the domain is not ours */
	DIRECTORY_NO_USER,     /* our domain, nobody there: 5.1.1 */
	DIRECTORY_ACCOUNT,
	DIRECTORY_ALIAS,
	DIRECTORY_SUSPENDED,   /* 5.2.1 */
	DIRECTORY_ELSEWHERE,   /* nobody here, but the domain says where such mail goes */
};
struct directory_match {
	enum directory_kind kind;
	span domain;                      /* the one whose names were looked at, if that is behind an alias domain; or empty */
	span elsewhere;                   /* DIRECTORY_ELSEWHERE: the domain's unknown_to */
	unsigned probes;                  /* names and patterns that were compared */
	struct directory_account account; /* DIRECTORY_ACCOUNT */
	struct directory_alias alias;     /* DIRECTORY_ALIAS; a catch-all is an alias with one target */
	span detail;                      /* what stood behind '+', or empty */
	bool catch_all;
};
/* Order: exact account or alias; the same without '+detail'; patterns, the highest priority first, then the longest;
 * the pattern "*"; the domain's catch-all; its unknown_to.  Local parts compare case-insensitively.  Three table
 * look-ups and at most DIRECTORY_PATTERNS_MAX comparisons, however many names there are. */
int directory_lookup(struct directory *d, const struct address *a, struct arena *mem, struct directory_match *ret);
/* Is A one of ALIAS's targets, or of those of an alias among them? */
bool directory_is_member(struct directory *d, span alias, const struct address *a);
/* Owns ACCOUNT_ID the envelope sender / header From ADDRESS (its own, with +detail, or an alias that leads to it)? */
bool directory_owns(struct directory *d, span account_id, const struct address *a);

/* --- the keys of rewritten reverse-paths (format/srs.h) --- */
#define DIRECTORY_SRS_KEYS 2
/* The newest first; made when the directory is.  Returns how many. */
unsigned directory_srs_keys(struct directory *d, uint8_t ret[DIRECTORY_SRS_KEYS][32]);
/* A new key signs; the one before still verifies, older ones are gone. */
int directory_srs_rotate(struct directory *d, struct err_info *info);

/* --- authentication.  Slow (argon2id): LANE_AUTH only. --- */
enum directory_scope { DIRECTORY_SMTP = 1, DIRECTORY_IMAP = 2, DIRECTORY_POP3 = 4, DIRECTORY_ALL_SCOPES = 7 };
struct directory_try {
	span login;     /* the address or, with one domain, the local part */
	span password;
	unsigned scope; /* what the login is for: an app password may be good for some protocols only */
	span peer;      /* its address as text: where an app password was used last */
};
/* ERR_AUTH for everything that is not right (P3), suspended and password-less accounts too.  A good password is
 * remembered in memory (as a keyed hash, for 10 minutes, until the account changes), a wrong one never.  Until its first
 * good login an imported hash costs what its scheme costs. */
int directory_authenticate(struct directory *d, const struct directory_try *t, struct arena *mem, struct directory_account *ret);
/* Password hashes that directory_authenticate has computed so far (for metrics; P3 and the memory of good
 * passwords can be seen by it). */
uint64_t directory_hashes(const struct directory *d);
/* The account that LOGIN stands for, for who has proven to be it in another way; ERR_AUTH: none, or suspended. */
int directory_login(struct directory *d, span login, struct arena *mem, struct directory_account *ret);

/* Is the account still what it was when it had GENERATION (P4)?  Cheap. */
bool directory_is_current(struct directory *d, span account_id, uint64_t generation);

/* --- SCRAM --- */
/* For which hashes verifiers are kept (bits 1 << enum hash_alg; SHA-256 alone at first).  They are made with the
 * password, or at its next good plain login. */
void directory_set_scram(struct directory *d, unsigned algs);
/* SCRAM verifier of LOGIN; for unknown users (and where SCRAM may not be used) a stable made-up one (P3), so never
 * ERR_NOENT. */
struct directory_scram {
	uint32_t iterations;
	span salt;
	uint8_t stored_key[HASH_MAX], server_key[HASH_MAX];
	struct directory_account account; /* if REAL */
	bool real;
};
int directory_scram_get(struct directory *d, enum hash_alg alg, span login, struct arena *mem, struct directory_scram *ret);

/* --- which DKIM keys sign (the keys themselves are the keys role's: tls/dkim_keys.h) --- */
enum dkim_state { DKIM_NEW, DKIM_ACTIVE, DKIM_RETIRED }; /* stored: the values stay */
struct directory_dkim {
	span domain, selector;
	enum sign_type type;
	enum dkim_state state;
	usec changed; /* wall, of the state */
};
#define DIRECTORY_DKIM_MAX 16 /* keys of one domain */
/* Adds a key as DKIM_NEW.  ERR_TOOBIG: the domain has DIRECTORY_DKIM_MAX of them. */
int directory_dkim_add(struct directory *d, span domain, span selector, enum sign_type type, struct err_info *info);
/* Makes it the one of its type that signs; the one before is retired. */
int directory_dkim_use(struct directory *d, span domain, span selector, struct err_info *info);
int directory_dkim_remove(struct directory *d, span domain, span selector, struct err_info *info);
/* Of DOMAIN (empty: all; ERR_NOENT), by domain and selector; in MEM. */
int directory_dkim_list(struct directory *d, span domain, struct arena *mem, struct directory_dkim **ret, size_t *n);
int directory_dkim_get(struct directory *d, span domain, span selector, struct arena *mem, struct directory_dkim *ret);
/* Those of DOMAIN that are active: no more than one of each type; 0: its mail is not signed. */
size_t directory_dkim_active(struct directory *d, span domain, struct arena *mem, struct directory_dkim **ret);
bool directory_dkim_any(const struct directory *d); /* is any key of any domain active? */

/* --- app passwords --- */
#define DIRECTORY_APP_PASSWORD 30 /* octets of one as text, with NUL */
struct directory_app_password {
	span name;
	unsigned scope;        /* enum directory_scope */
	usec created, expires; /* wall; expires 0: never */
	usec used;             /* wall, of the last login with it; 0: never */
	span peer;             /* where that came from */
};
/* RET: the password, which nobody can see again. */
int directory_app_password_add(struct directory *d, span address, span name, unsigned scope, usec expires, char ret[DIRECTORY_APP_PASSWORD], struct err_info *info);
int directory_app_password_remove(struct directory *d, span address, span name, struct err_info *info);
/* By name. */
int directory_app_passwords(struct directory *d, span address, struct arena *mem, struct directory_app_password **ret, size_t *ret_n);
/* Writes down when and from where app passwords were used, if anything is new; now and then. */
int directory_save_uses(struct directory *d);
