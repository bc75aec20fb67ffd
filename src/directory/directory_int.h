/* Inside the directory room: what is in memory, and the few functions its files share.
 *
 * The database is the truth; memory holds all of it but the credentials and the alias history,
 * under a read-write lock.  A change holds `change` from its checks to its end, so that it may read
 * the tables without the lock and only takes that (for writing) to swap in what was committed. Each
 * change touches the entries it names only: nothing is rebuilt. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "db/db.h"
#include "directory/directory.h"
#include "tls/hash.h"

/* Octets of the longest address that can be ours: local part, '@', domain (RFC 5321 4.5.3.1). */
enum { ADDRESS_MAX = 64 + 1 + 255, ALIAS_TARGETS_MAX = 1000, PASSWORD_MAX = 1024 };

/* An address, normalised: local part unquoted with ASCII in lower case, domain as A-labels. */
struct name_key {
	span key;  /* local@domain, the local part as it is: what tables are looked up by */
	size_t at; /* of the '@' in key */
	span text; /* as people and the envelope write it, quoted where needed */
};

struct dom_dkim {
	span selector; /* owned */
	enum sign_type type;
	enum dkim_state state;
	usec changed;
};

/* What a change of a domain replaces; all of it owned. */
struct dom_values {
	struct name_key catch_all; /* key.n == 0: none */
	enum from_policy from;
	bool subaddress, known_only;
	bool scram; /* SCRAM verifiers are kept */
	span alias_of, unknown_to; /* or empty */
};

struct dom {
	span name; /* owned */
	struct dom_values v;
	struct dom_dkim *dkim; /* by selector */
	size_t n_dkim;
	size_t n_names;		/* accounts and aliases in it */
	struct name **patterns; /* in the order they are tried; in the table of names too */
	size_t n_patterns;
};

/* P1: one table of names, whose entries are an account or an alias. */
struct name {
	struct name_key k; /* owned */
	struct dom *dom;
	bool is_alias;
	struct directory_account account; /* .address is k.text */
	struct name_key *targets;	  /* owned */
	size_t n_targets;
	enum alias_senders senders;
	int priority;
	size_t star; /* of the '*' in the key of an alias that is a pattern; else SPAN_NPOS */
};

struct auth_cache;
struct app_table;
struct directory {
	struct db *db;
	pthread_mutex_t change;
	pthread_rwlock_t lock;
	struct map *domains, *names, *ids; /* name, key, account id */
	uint8_t secret[32];		   /* makes up SCRAM verifiers for unknown users */
	uint8_t srs[DIRECTORY_SRS_KEYS][32]; /* newest first; under lock */
	unsigned n_srs;
	struct auth_cache *remembered;
	struct app_table *app;
	_Atomic size_t n_signing; /* DKIM keys that are active, of all domains */
	_Atomic unsigned scram; /* bits 1 << enum hash_alg: verifiers that new passwords get */
	_Atomic uint64_t hashes; /* computed by logins */
	char *dummy_hash;	 /* argon2id of nobody's password */
};

/* The domain called DOMAIN, or NULL with ERR_NOENT in INFO; `change` is held. */
struct dom *directory_known_domain(struct directory *d, span domain, struct arena *mem, struct err_info *info);

extern const struct db_schema directory_schema;

/* --- entry.c: names, entries, tables --- */
int directory_name_parse(span text, struct arena *mem, struct name_key *ret);
int directory_domain_parse(span text, struct arena *mem, span *ret);
struct name_key directory_key_dup(const struct name_key *k);
void directory_key_done(struct name_key *k);
struct name *directory_name_new(const struct name_key *k, struct dom *dom);
void directory_name_free(struct name *n);
struct dom *directory_dom_new(span name);
void directory_dom_free(struct dom *dom);
struct dom_values directory_dom_values(const struct directory_domain *v, const struct name_key *catch_all);
void directory_dom_values_done(struct dom_values *v);
/* An alias of K with V's values and TARGETS. */
struct name *directory_alias_new(const struct name_key *k, struct dom *dom, const struct directory_alias *v,
				 const struct name_key *targets);
/* Puts N into (takes it out of) the tables; the lock is held for writing. */
void directory_name_link(struct directory *d, struct name *n);
void directory_name_unlink(struct directory *d, struct name *n);
/* Is LOCAL a pattern (one '*')?  ERR_INVAL for more of them. */
int directory_pattern(span local, size_t *ret_star);

/* --- read.c --- */
int directory_load(struct directory *d, struct err_info *info);
void directory_account_copy(const struct name *n, struct arena *mem, struct directory_account *ret);
void directory_alias_copy(const struct name *n, struct arena *mem, struct directory_alias *ret);

/* --- change.c --- */
int directory_commit(struct directory *d, db_write_fn *fn, void *arg, struct err_info *info);
/* A name that is free in a domain that is ours. */
int directory_new_name(struct directory *d, span address, struct arena *mem, struct name_key *ret_key,
		       struct dom **ret_dom, struct err_info *info);
/* The account or alias ADDRESS, or NULL with ERR_NOENT in INFO; `change` is held. */
struct name *directory_known_name(struct directory *d, span address, bool alias, struct arena *mem,
				  struct err_info *info);
static inline void directory_unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}
/* Until the end of the block no other change. */
#define CHANGE_SCOPE(d)                                                     \
	_cleanup_(directory_unlock) _unused_ pthread_mutex_t *change_held = \
		(pthread_mutex_lock(&(d)->change), &(d)->change)

/* --- dkim.c --- */
int directory_dkim_load(struct directory *d, struct err_info *info);
void directory_dom_dkim_done(struct dom *dom);

/* --- srs.c --- */
int directory_srs_setup(struct directory *d, struct err_info *info);

/* --- credential.c --- */
struct scram_keys {
	uint32_t iterations; /* 0: no verifier */
	uint8_t salt[16], stored_key[HASH_MAX], server_key[HASH_MAX];
};
struct credential {
	char hash[256]; /* argon2id string, or an imported crypt(3) string; empty: none */
	bool imported;
	struct scram_keys scram[HASH_ALGS];
};
/* Slow.  ERR_INVAL if the password is empty, too long or holds a NUL; ERR_NOMEM. */
int credential_make(struct directory *d, span password, struct credential *ret,
		    struct err_info *info);
/* An admin's crypt(3) or argon2id string; ERR_INVAL if no scheme we know. */
int credential_import(span text, struct credential *ret, struct err_info *info);
/* SCRAM: with its verifiers. */
int credential_put(struct db_tx *tx, span account_id, const struct credential *c, bool scram);
/* 1: *RET is set; 0: the account has none. */
int credential_get(struct directory *d, span account_id, struct credential *ret);
int credential_setup(struct directory *d, struct err_info *info);
void credential_done(struct directory *d);
/* At most N bytes of a column. */
void col_bytes(struct db_stmt *s, int col, void *to, size_t n);
/* The address LOGIN stands for: itself, or with only one domain its local part; ERR_AUTH. */
int login_parse(struct directory *d, span login, struct arena *mem, struct name_key *ret);
/* The account that may log in as LOGIN; false if none may. */
struct login_as {
	struct directory_account account;
	bool scram; /* by SCRAM, too */
};
bool login_find(struct directory *d, span login, struct arena *mem, struct login_as *ret);

/* --- credential_memory.c: good passwords of the last minutes --- */
struct auth_cache *cache_new(void);
void cache_free(struct auth_cache *c);
void cache_mac(const struct auth_cache *c, const struct directory_account *a, span password,
	       uint8_t ret[32]);
bool cache_knows(struct auth_cache *c, const uint8_t mac[32]);
void cache_remember(struct auth_cache *c, const uint8_t mac[32]);

/* --- credential_scram.c --- */
unsigned scram_algs(struct directory *d);
/* The verifiers that PASSWORD should have, and those that C has: bits 1 << enum hash_alg. */
unsigned scram_wanted(struct directory *d, span password);
unsigned scram_present(const struct credential *c);
int scram_derive(span password, unsigned algs, struct credential *c);
int scram_put(struct db_tx *tx, span account_id, const struct credential *c); /* NULL: removes */
int scram_load(struct db_tx *tx, span account_id, struct credential *ret);

/* --- credential_app.c --- */
/* Is T's password an app password of A that is good for T's scope now?  Notes its use. */
bool app_matches(struct directory *d, const struct directory_account *a,
		 const struct directory_try *t);
void app_forget(struct directory *d, span account_id); /* the account was removed */
int app_load(struct directory *d);
void app_done(struct directory *d);

/* --- change.c --- */
/* Replaces the credential of ID by C, of the same password, if the account is still of GENERATION
 * (not a change). */
int directory_credential_upgrade(struct directory *d, span id, uint64_t generation,
				 const struct credential *c);
/* Gives the account ADDRESS its next generation in one commit with what WRITE does (P4). */
typedef int account_write_fn(struct db_tx *tx, span account_id, void *arg);
int directory_account_touch(struct directory *d, span address, account_write_fn *write, void *arg,
			    struct err_info *info);
