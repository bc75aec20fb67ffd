/* HTTP requests of core: names to addresses by the resolver, the rest by http/client.h. */
#include "role/out_int.h"

#include <stdlib.h>

#include "base/log.h"

struct fetch {
	struct out *out;
	uint64_t id, core_generation;
	struct arena mem;
	struct http_request request;
	struct sockaddr_any addrs[HTTP_ADDRESSES_MAX];
	size_t n_addrs;
	int fd;
	usec asked;
};

static void answered(void *arg, const struct http_answer *a)
{
	struct fetch *f = arg;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct http_answer large = { .fail = HTTP_FAIL_TOOBIG,
				     .why = SPAN("the answer is too large") };

	if (http_answer_put(&b, a) < 0) {
		buf_reset(&b);
		http_answer_put(&b, &large);
	}
	if (f->out->core && f->out->core_generation == f->core_generation)
		channel_send(f->out->core, HTTP_ANSWER, f->id, buf_span(&b), -1);
	close_fdp(&f->fd);
	arena_done(&f->mem);
	free(f);
}

static void go(struct fetch *f)
{
	f->request.timeout = MAX(f->request.timeout - (clock_mono() - f->asked), USEC_MSEC);
	http_client_ask(f->out->http, &f->request, f->addrs, f->n_addrs, STEAL_FD(&f->fd), answered,
			f);
}

static void resolved(void *arg, const struct dns_answer *a, size_t n)
{
	struct fetch *f = arg;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < a[i].n && f->n_addrs < HTTP_ADDRESSES_MAX; k++)
			if (a[i].records[k].addr.sa.sa_family != AF_UNSPEC)
				f->addrs[f->n_addrs++] = a[i].records[k].addr;
	go(f);
}

void out_http_ask(struct out *o, struct channel_msg *m)
{
	struct fetch *f = xcalloc(1, sizeof *f);
	struct dns_question q[2];
	struct http_url url;
	struct http_answer bad = { .fail = HTTP_FAIL_REQUEST,
				   .why = SPAN("the request could not be read") };

	*f = (struct fetch){ .out = o,
			     .id = m->id,
			     .core_generation = o->core_generation,
			     .fd = STEAL_FD(&m->fd),
			     .asked = clock_mono() };
	arena_init(&f->mem);
	if (http_request_get(arena_span(&f->mem, m->payload), &f->mem, &f->request) < 0 ||
	    http_url_parse(f->request.url, &url) < 0) {
		answered(f, &bad);
		return;
	}
	if (url.numeric || f->request.to.sa.sa_family != AF_UNSPEC) {
		go(f);
		return;
	}
	q[0] = (struct dns_question){ url.host, DNS_A };
	q[1] = (struct dns_question){ url.host, DNS_AAAA };
	resolver_ask(o->resolver, q, 2, resolved, f);
}

static void trust(void *arg, void *ssl_ctx)
{
	struct out *o = arg;

	tls_client_trust(o->tls, ssl_ctx);
}

void out_http_start(struct out *o)
{
	o->http = http_client_new(o->loop, trust, o);
}
