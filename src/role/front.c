/* The front role: sockets, TLS and framing; no files, no account data.
 *
 * This thread obeys parent's control channel; everything else runs on the loops (front_loop.c) and
 * in the handshake pool (front_tls.c). */
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/id.h"
#include "base/log.h"
#include "role/front_int.h"
#include "role/role.h"
#include "role/setup.h"
#include "tls/hash.h"

#define MAX_CERTS 256

/* What arrives before START, or as a set during a reload. */
struct startup {
	int core_fds[FRONT_MAX_LOOPS];
	size_t n_core;
	struct buf pem[MAX_CERTS];
	struct tls_cert_in certs[MAX_CERTS];
	size_t n_certs;
	struct buf client_ca;
};

/* ------------------------------------------------------------------ settings */

struct front_settings *front_settings_get(struct front *f)
{
	pthread_mutex_lock(&f->lock);
	struct front_settings *s = f->settings;
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&f->lock);
	return s;
}

void front_settings_unref(struct front_settings *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	conf_unref(s->conf);
	tls_server_unref(s->tls);
	free(s);
}

/* Takes over CONF and TLS; each NULL is "as before". */
static void settings_replace(struct front *f, struct conf *conf, struct tls_server *tls)
{
	struct front_settings *s = xcalloc(1, sizeof(*s));
	s->refs = 1;
	pthread_mutex_lock(&f->lock);
	struct front_settings *old = f->settings;
	s->conf = conf ? conf : old ? conf_ref(old->conf) : NULL;
	s->tls = tls ? tls : old && old->tls ? tls_server_ref(old->tls) : NULL;
	f->settings = s;
	if (s->conf)
		atomic_store(&f->memory, (size_t)s->conf->front_memory);
	pthread_mutex_unlock(&f->lock);
	front_settings_unref(old);
}

static void take_conf(struct front *f, span text)
{
	struct conf *c = role_conf(text);
	if (!c)
		return;
	if (!f->single)
		role_log("front", c);
	settings_replace(f, c, NULL);
}

/* ------------------------------------------------------------------ certificates and ticket keys
 */

static void certs_forget(struct startup *s)
{
	for (size_t i = 0; i < s->n_certs; i++)
		buf_done(&s->pem[i]);
	s->n_certs = 0;
	buf_done(&s->client_ca);
}

static void take_client_ca(struct startup *s, span pem)
{
	buf_done(&s->client_ca);
	s->client_ca = BUF_INIT(CHANNEL_MAX);
	buf_put_span(&s->client_ca, pem);
}

static void take_cert(struct startup *s, uint32_t number, span pem)
{
	if (s->n_certs == MAX_CERTS) {
		log_event(LOG_ERROR, "front.too_many_certificates", F_U64("max", MAX_CERTS));
		return;
	}
	struct buf *b = &s->pem[s->n_certs];
	*b = BUF_INIT(CHANNEL_MAX);
	buf_put_span(b, pem);
	s->certs[s->n_certs++] = (struct tls_cert_in){ .chain_pem = buf_span(b), .key = number };
}

/* The set is complete: new handshakes use it, sessions go on with what they have. */
static void take_certs(struct front *f, struct startup *s)
{
	struct tls_server *tls = NULL;
	struct err_info info = { 0 };
	if (s->n_certs > 0 && tls_server_new(s->certs, s->n_certs, &tls, &info) < 0)
		log_event(LOG_ERROR, "front.certificates_refused", F_STR("why", info.text));
	if (tls && s->client_ca.n &&
	    tls_server_client_ca(tls, buf_span(&s->client_ca), &info) < 0)
		log_event(LOG_ERROR, "front.client_ca_refused", F_STR("why", info.text));
	certs_forget(s);
	if (!tls)
		return;
	pthread_mutex_lock(&f->lock);
	tls_server_tickets(tls, (const uint8_t(*)[80])f->tickets, ARRAY_LEN(f->tickets));
	pthread_mutex_unlock(&f->lock);
	settings_replace(f, NULL, tls);
}

/* A ticket outlives one rotation, so that peers may come back. */
void front_rotate_tickets(struct front *f)
{
	pthread_mutex_lock(&f->lock);
	memmove(f->tickets[1], f->tickets[0], sizeof(f->tickets) - sizeof(f->tickets[0]));
	random_bytes(f->tickets[0], sizeof(f->tickets[0]));
	if (f->settings && f->settings->tls)
		tls_server_tickets(f->settings->tls, (const uint8_t(*)[80])f->tickets,
				   ARRAY_LEN(f->tickets));
	pthread_mutex_unlock(&f->lock);
}

/* ------------------------------------------------------------------ listeners and channels */

static void take_listener(struct front *f, uint64_t id, int *fd)
{
	unsigned proto = id & 0xff;
	if (*fd < 0 || f->started || f->n_listeners == FRONT_MAX_LISTENERS ||
	    proto >= SESS_PROTO_COUNT)
		return;
	f->listeners[f->n_listeners++] = (struct listener){ .fd = STEAL_FD(fd),
							    .proto = proto,
							    .implicit_tls = id >> 8 & 1 };
}

static void take_channel(struct front *f, struct startup *s, uint64_t peer, int *fd)
{
	if (*fd < 0)
		return;
	if (peer == CONTROL_PEER_KEYS)
		handshake_pool_channel(f, STEAL_FD(fd));
	else if (peer == CONTROL_PEER_CORE && f->started)
		front_loop_core(f->loops[f->next_core_loop++ % f->n_loops], STEAL_FD(fd));
	else if (peer == CONTROL_PEER_CORE && s->n_core < FRONT_MAX_LOOPS)
		s->core_fds[s->n_core++] = STEAL_FD(fd);
}

/* ------------------------------------------------------------------ start and end */

static int start(struct front *f, struct startup *s)
{
	if (!f->settings) {
		log_event(LOG_ERROR, "front.no_configuration");
		return ERR_INVAL;
	}
	_cleanup_(freep) char *user = span_dup(f->settings->conf->user_front);
	int r = f->single ? 0 : role_confine(user, SANDBOX_FRONT, NULL);
	if (r < 0)
		return r;

	/* One loop for each channel to core that parent made. */
	size_t loops = MAX(s->n_core, (size_t)1);
	for (; f->n_loops < loops; f->n_loops++)
		f->loops[f->n_loops] = front_loop_new(f, (unsigned)f->n_loops);
	for (size_t i = 0; i < s->n_core; i++)
		front_loop_attach(f->loops[i], STEAL_FD(&s->core_fds[i]));
	f->next_core_loop = s->n_core;
	front_listen(f);
	f->started = true;
	r = handshake_pool_start(f);
	while (r == 0 && f->n_running < f->n_loops) {
		r = front_loop_start(f->loops[f->n_running]);
		if (r == 0)
			f->n_running++;
	}
	if (r < 0)
		return r;
	return channel_send_fd(f->control, CONTROL_READY, 0, SPAN_NULL, -1);
}

static void join_loops(struct front *f)
{
	for (; f->n_running > 0; f->n_running--)
		pthread_join(f->loops[f->n_running - 1]->thread, NULL);
}

static void drain(struct front *f)
{
	for (size_t i = 0; i < f->n_loops; i++)
		front_loop_drain(f->loops[i]);
	join_loops(f);
	channel_send_fd(f->control, CONTROL_DRAINED, 0, SPAN_NULL, -1);
}

/* One message of parent; positive ends the role well, negative badly. */
static int control_message(struct front *f, struct startup *s, uint16_t type, uint64_t id,
			   span payload, int *fd)
{
	switch (type) {
	case CONTROL_CONF:
		take_conf(f, payload);
		break;
	case CONTROL_CERT:
		take_cert(s, (uint32_t)id, payload);
		break;
	case CONTROL_CLIENT_CA:
		take_client_ca(s, payload);
		break;
	case CONTROL_CERTS_END:
		take_certs(f, s);
		break;
	case CONTROL_LISTEN:
		take_listener(f, id, fd);
		break;
	case CONTROL_CHANNEL:
		take_channel(f, s, id, fd);
		break;
	case CONTROL_START:
		return f->started ? 0 : start(f, s);
	case CONTROL_DRAIN:
		drain(f);
		return 1;
	}
	return 0;
}

static void front_done(struct front *f)
{
	for (size_t i = 0; i < f->n_running; i++)
		loop_stop(f->loops[i]->loop);
	join_loops(f);
	handshake_pool_stop(f);
	for (size_t i = 0; i < f->n_loops; i++)
		front_loop_free(f->loops[i]);
	for (size_t i = 0; i < f->n_listeners; i++)
		close_fdp(&f->listeners[i].fd);
	handshake_pool_done(f);
	front_settings_unref(f->settings);
	front_limits_done(&f->limits);
	pthread_mutex_destroy(&f->lock);
	secret_wipe(f->tickets, sizeof(f->tickets));
	free(f);
}

int role_front(int control, bool single)
{
	struct front *f = xcalloc(1, sizeof(*f));
	struct startup *s = xcalloc(1, sizeof(*s));
	struct err_info info = { 0 };
	f->single = single;
	f->control = control;
	pthread_mutex_init(&f->lock, NULL);
	front_limits_init(&f->limits);
	handshake_pool_init(f);
	front_rotate_tickets(f);
	int r = tls_init(&info);
	if (r < 0)
		log_event(LOG_ERROR, "front.tls", F_STR("why", info.text));

	_cleanup_(buf_donep) struct buf b = BUF_INIT(CONF_MAX_TEXT + CHANNEL_MAX);
	while (r == 0) {
		_cleanup_(close_fdp) int fd = -1;
		uint16_t type;
		uint64_t id;
		buf_reset(&b);
		r = channel_recv_fd(control, 0, &type, &id, &b, &fd);
		if (r >= 0)
			r = control_message(f, s, type, id, buf_span(&b), &fd);
	}
	certs_forget(s);
	for (size_t i = 0; i < s->n_core; i++)
		close_fdp(&s->core_fds[i]);
	free(s);
	front_done(f);
	return r > 0 || r == ERR_CLOSED ? 0 : 1;
}
