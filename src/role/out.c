/* The out role: everything that speaks to strangers on our initiative.  It resolves names and
 * carries outgoing SMTP; it holds no mail but what is under way, and no key at all.
 *
 * Order of start: settings, trust anchors and channels arrive over the control channel; TLS and the
 * resolver read what they need; then the sandbox closes; the resolver's thread is born inside it.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/log.h"
#include "filter/filter.h"
#include "role/control.h"
#include "role/out_int.h"
#include "role/role.h"
#include "role/setup.h"

enum { CA_MAX = 8 * 1024 * 1024, ANCHOR_MAX = 64 * 1024 };
#define DRAIN_TIMEOUT (5 * USEC_SEC)

/* --- DNS --- */

struct asked {
	struct out *out;
	uint64_t id, core_generation;
};

static void answered(void *arg, const struct dns_answer *a, size_t n)
{
	struct asked *q = arg;
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CHANNEL_MAX);
	struct dns_answer short_answers[DNS_ASK_MAX];

	if (dns_answers_put(&b, a, n) < 0) {
		/* Absurdly much: as good as a broken zone. */
		for (size_t i = 0; i < n; i++)
			short_answers[i] =
				(struct dns_answer){ .name = a[i].name,
						     .type = a[i].type,
						     .status = DNS_SERVFAIL,
						     .why = SPAN("the answers are too large") };
		buf_reset(&b);
		dns_answers_put(&b, short_answers, n);
	}
	if (q->out->core && q->out->core_generation == q->core_generation)
		channel_send(q->out->core, DNS_ANSWER, q->id, buf_span(&b), -1);
	free(q);
}

static void ask(struct out *o, uint64_t id, span payload)
{
	struct arena mem _cleanup_(arena_donep);
	struct asked *asked = xcalloc(1, sizeof *asked);
	struct dns_question *q = NULL;
	size_t n = 0;

	arena_init(&mem);
	*asked = (struct asked){ o, id, o->core_generation };
	if (dns_ask_get(payload, &mem, &q, &n) < 0) {
		log_event(LOG_ERROR, "out.bad_question");
		n = 0; /* is answered all the same: somebody waits */
	}
	resolver_ask(o->resolver, q, n, answered, asked);
}

/* --- core --- */

static void core_message(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct out *o = arg;

	switch (m->type) {
	case DNS_ASK:
		ask(o, m->id, m->payload);
		break;
	case DNS_FLUSH:
		resolver_flush(o->resolver);
		break;
	case FILTER_ASK:
		out_filter_ask(o, m);
		break;
	case HTTP_ASK:
		out_http_ask(o, m);
		break;
	case RELAY_OPEN:
		out_conn_open(o, m->id, m->payload);
		break;
	case RELAY_SEND:
		out_conn_send(o, m);
		break;
	case RELAY_CLOSE:
		out_conn_close(o, m->id);
		break;
	}
}

static void core_gone(void *arg, struct channel *ch)
{
	struct out *o = arg;

	channel_close(ch);
	if (o->core != ch)
		return; /* replaced already */
	o->core = NULL;
	out_conn_drop_all(o); /* nobody would read how they end */
	out_filter_drop_all(o);
	out_conn_gone(o);
}

static void set_core(struct out *o, int fd)
{
	if (o->core) {
		channel_close(o->core);
		out_conn_drop_all(o);
		out_filter_drop_all(o);
	}
	o->core_generation++;
	o->core = channel_open(o->loop, fd, core_message, core_gone, o);
}

/* --- parent --- */

static void take_conf(struct out *o, span text)
{
	struct conf *c = role_conf(text);

	if (!c)
		return;
	conf_unref(o->conf);
	o->conf = c;
	if (!o->single)
		role_log("out", c);
}

static int make_tls(struct out *o)
{
	struct err_info info = { 0 };
	struct tls_client *tls;
	int err = tls_client_new(buf_span(&o->ca), &tls, &info);

	if (err < 0) {
		log_event(LOG_ERROR, "out.tls", F_STR("why", info.text));
		return err;
	}
	tls_client_free(o->tls); /* connections under way hold their own reference */
	o->tls = tls;
	return 0;
}

static void take_ca(struct out *o, span piece)
{
	if (piece.n > 0) {
		buf_put_span(&o->ca, piece);
		return;
	}
	if (o->ca.failed)
		log_event(LOG_ERROR, "out.ca_too_large");
	else
		make_tls(o);
	buf_done(&o->ca);
}

static void drained(void *arg)
{
	struct out *o = arg;

	channel_send(o->control, CONTROL_DRAINED, 0, SPAN_NULL, -1);
	loop_stop(o->loop);
}

void out_conn_gone(struct out *o)
{
	if (o->draining && idmap_count(o->conns) == 0)
		loop_timer_arm(&o->drain, 0);
}

static void drain(struct out *o)
{
	o->draining = true;
	loop_timer_arm(&o->drain, DRAIN_TIMEOUT);
	out_conn_gone(o);
}

static void control_message(void *arg, struct channel *ch, struct channel_msg *m)
{
	struct out *o = arg;

	switch (m->type) {
	case CONTROL_CONF:
		take_conf(o, m->payload); /* the resolver's settings need a restart */
		break;
	case CONTROL_CA:
		take_ca(o, m->payload);
		break;
	case CONTROL_CHANNEL:
		if (m->id == CONTROL_PEER_CORE && m->fd >= 0)
			set_core(o, STEAL_FD(&m->fd));
		break;
	case CONTROL_DRAIN:
		drain(o);
		break;
	}
}

static void control_gone(void *arg, struct channel *ch)
{
	struct out *o = arg;

	loop_stop(o->loop); /* the parent is gone */
}

/* --- start --- */

/* Everything up to START, without the loop. */
static int read_start(struct out *o, int control)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(CONF_MAX_TEXT + CHANNEL_MAX);

	for (;;) {
		struct channel_msg m = { .fd = -1 };
		int err;

		buf_reset(&b);
		err = channel_recv_fd(control, 0, &m.type, &m.id, &b, &m.fd);
		if (err < 0)
			return err;
		m.payload = buf_span(&b);
		if (m.type == CONTROL_ANCHOR)
			buf_put_span(&o->anchor, m.payload);
		else
			control_message(o, NULL, &m);
		close_fdp(&m.fd);
		if (m.type == CONTROL_START)
			return o->conf ? 0 : ERR_PROTO;
		if (m.type == CONTROL_DRAIN)
			return ERR_CLOSED;
	}
}

static int make_resolver(struct out *o)
{
	struct resolver_conf conf = { .forward = o->conf->dns_forward,
				      .stub_zone = o->conf->dns_stub_zone,
				      .stub = o->conf->dns_stub,
				      .anchor_text = buf_span(&o->anchor),
				      .allow_local = o->conf->dns_allow_local };
	struct err_info info = { 0 };
	int err = resolver_new(o->loop, &conf, &o->resolver, &info);

	if (err < 0)
		log_event(LOG_ERROR, "out.resolver", F_STR("why", info.text));
	return err;
}

static int start(struct out *o, int control)
{
	char *user _cleanup_(freep) = NULL;
	int err = read_start(o, control);

	if (err < 0)
		return err;
	if (!o->tls && (err = make_tls(o)) < 0) /* without anchors: nothing verifies */
		return err;
	out_http_start(o);
	if ((err = make_resolver(o)) < 0)
		return err;
	user = span_dup(o->conf->user_out);
	if (!o->single && (err = role_confine(user, SANDBOX_OUT, NULL)) < 0)
		return err;
	return channel_send_fd(control, CONTROL_READY, 0, SPAN_NULL, -1);
}

static void out_done(struct out *o)
{
	out_conn_drop_all(o);
	out_filter_drop_all(o);
	resolver_free(o->resolver); /* answers what waits for a name */
	http_client_free(o->http);
	channel_close(o->core);
	channel_close(o->control);
	tls_client_free(o->tls);
	loop_timer_stop(&o->drain);
	loop_free(o->loop);
	idmap_free(o->conns);
	idmap_free(o->talks);
	conf_unref(o->conf);
	buf_done(&o->ca);
	buf_done(&o->anchor);
}

int role_out(int control, bool single)
{
	struct out o = { .single = single, .ca = BUF_INIT(CA_MAX), .anchor = BUF_INIT(ANCHOR_MAX) };
	struct err_info info = { 0 };
	int err = tls_init(&info), own;

	if (err < 0)
		log_event(LOG_ERROR, "out.tls", F_STR("why", info.text));
	if (err == 0 && (err = http_init(&info)) < 0)
		log_event(LOG_ERROR, "out.http", F_STR("why", info.text));
	o.loop = loop_new();
	o.conns = idmap_new();
	o.talks = idmap_new();
	loop_timer_init(&o.drain, o.loop, drained, &o);
	if (err == 0)
		err = start(&o, control);
	if (err == 0) {
		own = fcntl(control, F_DUPFD_CLOEXEC, 3);
		o.control = own < 0 ? NULL
				    : channel_open(o.loop, own, control_message, control_gone, &o);
	}
	if (o.control)
		loop_run(o.loop);
	else if (err == 0)
		err = ERR_IO;
	out_done(&o);
	return err == 0 || err == ERR_CLOSED ? 0 : 1;
}
