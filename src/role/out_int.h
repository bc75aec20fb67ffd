/* The out role inside.  One thread, one loop: the control channel, the channel of core, the
 * resolver and all connections. */
#pragma once

#include "base/map.h"
#include "conf/conf.h"
#include "dns/resolver.h"
#include "http/client.h"
#include "relay/client.h"
#include "sys/channel.h"
#include "tls/tls.h"

struct out {
	bool single, draining;
	struct loop *loop;
	struct channel *control, *core;
	uint64_t core_generation; /* answers to a core that is gone are dropped */
	struct conf *conf;
	struct buf ca, anchor;
	struct tls_client *tls;
	struct resolver *resolver;
	struct http_client *http;
	struct idmap *conns; /* by core's number */
	struct idmap *talks; /* with filters, by core's number */
	struct loop_timer drain;
};

/* --- out_conn.c: one connection to a peer --- */
void out_conn_open(struct out *o, uint64_t id, span payload);
void out_conn_send(struct out *o, struct channel_msg *m);
void out_conn_close(struct out *o, uint64_t id);
void out_conn_drop_all(struct out *o); /* without a word to core or peer */

/* --- out_filter.c: conversations with filters --- */
void out_filter_ask(struct out *o, struct channel_msg *m);
void out_filter_drop_all(struct out *o); /* without a word to core */

/* --- out_http.c: requests to web servers --- */
void out_http_start(struct out *o);
void out_http_ask(struct out *o, struct channel_msg *m);

/* A connection ended while draining: is that all? (out.c) */
void out_conn_gone(struct out *o);
