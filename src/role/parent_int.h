/* Inside role/: the parent's state. */
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/clock.h"
#include "conf/conf.h"
#include "role/control.h"
#include "role/role.h"

enum role_kind { ROLE_KEYS, ROLE_CORE, ROLE_OUT, ROLE_FRONT, ROLE_COUNT }; /* order of starting */

struct role_state {
	enum role_kind kind;
	const char *name;
	pid_t pid;	  /* 0: not running */
	pthread_t thread; /* with --single, if THREADED */
	bool threaded;
	int control; /* parent's end, or -1 */
	bool ready;
	usec started, retry_at; /* monotonic; retry_at 0: not waiting */
	unsigned failures;	/* in a row; sets the back-off */
};

struct parent_cert {
	struct buf chain, key; /* PEM */
};

struct parent {
	const struct parent_options *options;
	struct conf *conf;
	struct buf conf_text;
	uint64_t generation;
	struct role_state roles[ROLE_COUNT];
	struct parent_cert certs[CONF_MAX_CERTS + 1];
	size_t n_certs;
	struct buf ca, anchor, client_ca;
	struct buf passwords; /* payload of CONTROL_PASSWORDS */
	int listeners[256];
	uint64_t listener_ids[256]; /* enum sess_proto | implicit_tls << 8 */
	size_t n_listeners;
	int admin_listener, lock;
	int poison_fd;
	void *poison;
	unsigned front_loops;
	bool stopping, announced;
	int exit; /* code of a role that could not start */
};

/* parent_files.c: what the parent reads and prepares on disk. */
int parent_read_files(struct parent *p,
		      struct err_info *info); /* certificates, CA, anchor, passwords of p->conf */
int parent_prepare_data(struct parent *p, struct err_info *info); /* directories, owners, lock */
int parent_listen(struct parent *p, struct err_info *info);
void parent_files_done(struct parent *p);
void parent_wipe(struct buf *b); /* frees a secret */

/* parent_start.c: bringing one role up and wiring it to its peers. */
int parent_start_role(struct parent *p, enum role_kind kind, struct err_info *info);
/* New configuration and certificates to a running role. */
void parent_send_config(struct parent *p, struct role_state *r);
