/* The resolver: libunbound, asynchronous, validating; runs in `out` only.  Never ub_resolve(). */
#pragma once

#include "dns/dns.h"
#include "sys/loop.h"

struct resolver;
struct resolver_conf {
	span forward;        /* "ADDR@PORT" or empty: iterate / system */
	span stub_zone, stub; /* zone sent to ADDR@PORT, e.g. the lab's "test." */
	span anchor_text;    /* trust anchor (DS/DNSKEY lines) or empty: the built-in root anchor */
	bool allow_local;    /* may ask loopback and private addresses (lab) */
};
/* Before the sandbox: libunbound reads its files here.  Its thread is made with the first question, after
 * the sandbox.  INFO tells which setting is wrong. */
int resolver_new(struct loop *l, const struct resolver_conf *conf, struct resolver **ret, struct err_info *info);
void resolver_free(struct resolver *r); /* open requests are answered (TIMEOUT) first */
typedef void resolver_fn(void *arg, const struct dns_answer *a, size_t n);
/* Asks; FN is called once on the loop's thread (maybe before this returns, when all is cached). */
void resolver_ask(struct resolver *r, const struct dns_question *q, size_t n, resolver_fn *fn, void *arg);
/* Forgets what is cached here.  libunbound's own cache stays, for at most a second with allow_local, else
 * for the TTLs. */
void resolver_flush(struct resolver *r);
