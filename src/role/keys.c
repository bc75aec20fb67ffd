/* The keys role: holds the private keys and answers "sign this", one thread per channel.
 *
 * It reads no file and no network; everything arrives over the control channel. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/arena.h"
#include "role/control.h"
#include "role/role.h"
#include "role/setup.h"
#include "sys/channel.h"
#include "tls/hash.h"
#include "tls/keys.h"
#include "tls/tls.h"

#define KEYS_MAX_CHANNELS 16

struct server {
	pthread_t thread;
	struct keys *keys;
	int sock;
	bool running;
};

struct role {
	bool single, started;
	struct conf *conf;
	struct keys *keys;
	struct server
		*servers[KEYS_MAX_CHANNELS]; /* a ring: a new front's channels replace the oldest */
	size_t next;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	keys_serve(s->keys, s->sock);
	return NULL;
}

/* Ends a server: its blocking receive sees the end of the channel. */
static void server_stop(struct server *s)
{
	if (!s)
		return;
	shutdown(s->sock, SHUT_RDWR);
	if (s->running)
		pthread_join(s->thread, NULL);
	close(s->sock);
	free(s);
}

static void server_start(struct server *s)
{
	if (s->running)
		return;
	s->running = pthread_create(&s->thread, NULL, serve, s) == 0;
	if (!s->running)
		log_event(LOG_ERROR, "keys.no_thread");
}

/* Threads must be born after the sandbox, so channels that come earlier wait for START. */
static void take_channel(struct role *r, int *fd)
{
	struct server *s = xcalloc(1, sizeof(*s));
	*s = (struct server){ .keys = r->keys, .sock = STEAL_FD(fd) };
	server_stop(r->servers[r->next]);
	r->servers[r->next] = s;
	r->next = (r->next + 1) % KEYS_MAX_CHANNELS;
	if (r->started)
		server_start(s);
}

static int start(struct role *r, int control)
{
	_cleanup_(freep) char *user = r->conf ? span_dup(r->conf->user_keys) : xstrdup("");
	int e = r->single ? 0 : role_confine(user, SANDBOX_KEYS, NULL);
	if (e < 0)
		return e;
	r->started = true;
	for (size_t i = 0; i < KEYS_MAX_CHANNELS; i++)
		if (r->servers[i])
			server_start(r->servers[i]);
	return channel_send_fd(control, CONTROL_READY, 0, SPAN_NULL, -1);
}

static void take_conf(struct role *r, span text)
{
	struct conf *c = role_conf(text);
	if (!c)
		return;
	conf_unref(r->conf);
	r->conf = c;
	if (!r->single)
		role_log("keys", c);
}

static void take_key(struct role *r, uint32_t number, struct buf *pem)
{
	struct err_info info = { 0 };
	if (keys_load(r->keys, number, buf_span(pem), &info) < 0)
		log_event(LOG_ERROR, "keys.refused", F_U64("key", number), F_STR("why", info.text));
	secret_wipe(pem->p, pem->n);
}

/* One message of parent; positive ends the role well, negative badly. */
static int control_message(struct role *r, int control, uint16_t type, uint64_t id, struct buf *b,
			   int *fd)
{
	switch (type) {
	case CONTROL_CONF:
		take_conf(r, buf_span(b));
		break;
	case CONTROL_KEY:
		take_key(r, (uint32_t)id, b);
		break;
	case CONTROL_CHANNEL:
		if (*fd >= 0)
			take_channel(r, fd);
		break;
	case CONTROL_START:
		return r->started ? 0 : start(r, control);
	case CONTROL_DRAIN:
		channel_send_fd(control, CONTROL_DRAINED, 0, SPAN_NULL, -1);
		return 1;
	}
	return 0;
}

int role_keys(int control, bool single)
{
	struct role r = { .single = single };
	struct err_info info = { 0 };
	int e = tls_init(&info);
	if (e < 0)
		log_event(LOG_ERROR, "keys.tls", F_STR("why", info.text));
	r.keys = keys_new();
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CONF_MAX_TEXT + CHANNEL_MAX);
	while (e == 0) {
		_cleanup_(close_fdp) int fd = -1;
		uint16_t type;
		uint64_t id;
		buf_reset(&b);
		e = channel_recv_fd(control, 0, &type, &id, &b, &fd);
		if (e >= 0)
			e = control_message(&r, control, type, id, &b, &fd);
	}
	for (size_t i = 0; i < KEYS_MAX_CHANNELS; i++)
		server_stop(r.servers[i]);
	keys_free(r.keys);
	conf_unref(r.conf);
	return e > 0 || e == ERR_CLOSED ? 0 : 1;
}
