/* Inside sasl/: one exchange and its mechanism. */
#pragma once

#include <pthread.h>

#include "sasl/sasl.h"

#define SASL_MAX_NAME	  320 /* login name, octets: local part, "@", domain */
#define SASL_MAX_PASSWORD 1024

/* A mechanism sees decoded messages.  IN.p NULL: the client has sent none yet (no initial
 * response).  OUT gets the challenge as it is before base64. */
struct sasl_mechanism {
	const char *name;
	int variant;		      /* what the code behind several names asks for */
	int (*start)(struct sasl *s); /* may be NULL */
	enum sasl_step (*step)(struct sasl *s, span in, struct buf *out);
	enum sasl_step (*resume)(struct sasl *s, struct buf *out); /* after SASL_WAIT */
	void (*done)(struct sasl *s); /* may be NULL */
};
/* Each file's mechanisms; the lists end with a NULL name. */
extern const struct sasl_mechanism sasl_plain_mechanisms[], sasl_scram_mechanisms[],
	sasl_oauth_mechanisms[], sasl_external_mechanisms[];

struct sasl_env {
	struct directory *directory;
	struct ask_table *asks; /* NULL: nobody can be asked */
	void (*wake)(void *arg, uint64_t session);
	void *wake_arg;
	pthread_mutex_t lock; /* what follows */
	unsigned allowed; /* of sasl_allowed() */
	struct oauth *oauth; /* reference-counted; NULL: no issuer */
};

struct sasl {
	struct sasl_env *env;
	const struct sess *sess;
	const struct sasl_mechanism *mechanism;
	struct arena mem;
	span login;			  /* in MEM */
	uint64_t guess;			  /* sasl_guess() */
	struct directory_account account; /* in MEM; valid after SASL_OK */
	void *state;			  /* the mechanism's */
	bool waiting;			  /* for sasl_resume() */
};

/* Asks the directory; notes LOGIN. */
enum sasl_step sasl_check_password(struct sasl *s, span login, span password);
/* What the mechanism has proven: S may be the account that NAME stands for, and AUTHZID (empty: the
 * same) must be it too, since nobody may act for somebody else. */
enum sasl_step sasl_admit(struct sasl *s, span name, span authzid);
