/* Inside sasl/: one exchange and its mechanism. */
#pragma once

#include "sasl/sasl.h"

#define SASL_MAX_NAME	  320 /* login name, octets: local part, "@", domain */
#define SASL_MAX_PASSWORD 1024

/* A mechanism sees decoded messages.  IN.p NULL: the client has sent none yet (no initial
 * response).  OUT gets the challenge as it is before base64. */
struct sasl_mechanism {
	const char *name;
	int (*start)(struct sasl *s); /* may be NULL */
	enum sasl_step (*step)(struct sasl *s, span in, struct buf *out);
	void (*done)(struct sasl *s); /* may be NULL */
};
extern const struct sasl_mechanism sasl_plain, sasl_login_mechanism, sasl_scram_sha256;

struct sasl {
	struct directory *directory;
	const struct sasl_mechanism *mechanism;
	struct arena mem;
	span login;			  /* in MEM */
	uint64_t guess;			  /* sasl_guess() */
	struct directory_account account; /* in MEM; valid after SASL_OK */
	void *state;			  /* the mechanism's */
	bool said_all; /* SCRAM: the server's last word is out, the client owes an empty line */
};

/* Asks the directory; notes LOGIN. */
enum sasl_step sasl_check_password(struct sasl *s, span login, span password);
