/* What an administrator does to waiting mail and the queue cannot do alone. */
#include "mail/mail_int.h"

#include <stdio.h>

#include "format/idn.h"

struct giving_back {
	struct core_env *env;
	size_t count;
};

static int give_back(void *arg, const struct queue_lease *l)
{
	struct giving_back *g = arg;
	_cleanup_(arena_donep) struct arena mem;
	struct event_list events;
	struct queue_result *results;
	int e;

	arena_init(&mem);
	event_list_init(&events, &mem);
	results = arena_array(&mem, struct queue_result, l->n_rcpts);
	for (size_t i = 0; i < l->n_rcpts; i++) {
		results[i] = (struct queue_result){ .row = l->rcpts[i].row,
						    .outcome = OUTCOME_FAILED,
						    .reply = SPAN("550 5.7.0 returned by the "
								  "administrator"),
						    .status = "5.7.0" };
		/* It was passed on when it was accepted: no report may say that it failed. */
		if (span_eq_str(l->route, "expanded"))
			mail_result_expanded(&results[i]);
	}
	e = mail_settle(g->env, l, results, l->n_rcpts, &events);
	if (e < 0)
		queue_release(g->env->queue, l);
	else
		g->count += l->n_rcpts;
	return e;
}

int mail_give_back(struct core_env *env, const struct queue_filter *f, size_t *ret_count)
{
	struct giving_back g = { .env = env };
	int e = queue_lease_matching(env->queue, f, give_back, &g);

	*ret_count = g.count;
	return e;
}

static bool name_valid(span name)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(512);

	return name.n && idn_to_ascii(&b, name) >= 0;
}

bool mail_route_valid(span route)
{
	struct sockaddr_any ignored;
	uint64_t port;
	span host;

	if (!span_starts(route, SPAN("smtp:")))
		return false;
	route = span_from(route, 5);
	if (!span_starts(route, SPAN("[")))
		return name_valid(route);
	route = span_from(route, 1);
	host = span_cut(&route, ']');
	if (!route.p)
		return false;
	if (route.n && (route.p[0] != ':' || !span_u64(span_from(route, 1), 65535, &port) || !port))
		return false;
	if (span_istarts(host, SPAN("IPv6:")))
		host = span_from(host, 5);
	return sock_parse_ip(host, 0, &ignored) == 0 || name_valid(host);
}
