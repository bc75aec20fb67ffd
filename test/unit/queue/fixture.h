/* A queue in a directory of its own under a virtual clock, and short ways to fill and drain it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <unistd.h>

#include "queue/queue.h"

#define MINUTE (60 * USEC_SEC)
#define HOUR   (60 * MINUTE)

struct fixture {
	char base[64], dir[96];
	struct queue_conf conf;
	struct queue *q;
	struct arena mem;
};

static inline void reopen(struct fixture *f)
{
	struct err_info info = { 0 };
	queue_close(f->q);
	f->q = NULL;
	if (queue_open(&f->conf, &f->q, &info) < 0)
		fail_msg("queue_open: %s", info.text);
}

static inline void fixture_init(struct fixture *f, unsigned shards)
{
	*f = (struct fixture){ 0 };
	snprintf(f->base, sizeof(f->base), "%s/test_queue.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(f->base));
	snprintf(f->dir, sizeof(f->dir), "%s/queue", f->base);
	f->conf = (struct queue_conf){ .dir = f->dir,
				       .shards = shards,
				       .inline_max = 4096,
				       .retry_first = 15 * MINUTE,
				       .retry_max = 4 * HOUR,
				       .lifetime = 120 * HOUR,
				       .warn_after = 4 * HOUR,
				       .retry_factor_percent = 200,
				       .jitter_percent = 10 };
}

static inline int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static inline int fixture_done(struct fixture *f)
{
	queue_close(f->q);
	arena_done(&f->mem);
	clock_set_offset(0);
	return nftw(f->base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void pass_time(usec d)
{
	clock_set_offset(clock_offset() + d);
}

static inline struct queue_rcpt_in to(const char *address, const char *route)
{
	return (struct queue_rcpt_in){ .address = span_str(address), .route = span_str(route) };
}

static inline int accept_body(struct fixture *f, span body, const struct queue_rcpt_in *r, size_t n,
			      struct id *ret_id)
{
	struct id id = id_new();
	if (ret_id)
		*ret_id = id;
	struct queue_message_in m = { .id = id,
				      .sender = SPAN("from@example.org"),
				      .body = body,
				      .size = body.n,
				      .rcpts = r,
				      .n_rcpts = n };
	return queue_accept(f->q, &m);
}

static inline bool lease(struct fixture *f, struct queue_lease *l)
{
	usec next;
	int r = queue_lease(f->q, &f->mem, l, &next);
	assert_true(r >= 0);
	return r == 1;
}

static inline int settle_all(struct fixture *f, const struct queue_lease *l, enum rcpt_outcome o,
			     usec not_before)
{
	struct queue_result *r = arena_array(&f->mem, struct queue_result, l->n_rcpts);
	for (size_t i = 0; i < l->n_rcpts; i++)
		r[i] = (struct queue_result){ .row = l->rcpts[i].row,
					      .outcome = o,
					      .reply = SPAN("reply text"),
					      .status = "4.0.0",
					      .remote = SPAN("mx.example.net[192.0.2.1]"),
					      .not_before = not_before };
	return queue_settle(f->q, l, r, l->n_rcpts, NULL, &f->mem);
}

/* A deferral that no rule matches. */
static const struct queue_result deferral = { .outcome = OUTCOME_DEFERRED };

static inline size_t list(struct fixture *f, struct queue_filter filter, struct queue_entry **ret)
{
	size_t n;
	struct queue_entry *e;
	assert_int_equal(queue_list(f->q, &filter, NULL, 1000, &f->mem, &e, &n), 0);
	if (ret)
		*ret = e;
	return n;
}

static inline size_t count_blobs(const struct fixture *f)
{
	char cmd[160];
	unsigned n = 0;
	snprintf(cmd, sizeof(cmd), "ls %s/blobs | wc -l", f->dir);
	FILE *p = popen(cmd, "r");
	assert_non_null(p);
	assert_int_equal(fscanf(p, "%u", &n), 1);
	pclose(p);
	return n;
}
