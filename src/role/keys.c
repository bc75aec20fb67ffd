/* The keys role: holds the private keys and answers "sign this", one thread per channel.
 *
 * Keys of certificates arrive over the control channel; DKIM's are born here and live in DATA/keys, all that the
 * role can reach.  front's channels speak tls/keys.h, core's tls/dkim_keys.h, and neither the other. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/arena.h"
#include "role/control.h"
#include "role/role.h"
#include "role/setup.h"
#include "sys/channel.h"
#include "tls/hash.h"
#include "tls/dkim_keys.h"
#include "tls/keys.h"
#include "tls/tls.h"

#define KEYS_MAX_CHANNELS 16 /* of front */

struct role;
struct server {
	pthread_t thread;
	struct role *role;
	int sock;
	bool mail; /* core's */
	bool running;
};

struct role {
	bool single, started;
	struct conf *conf;
	struct keys *keys;
	char dir[4096];
	struct dkim_keys *dkim;
	struct server *core;
	struct server
		*servers[KEYS_MAX_CHANNELS]; /* a ring: a new front's channels replace the oldest */
	size_t next;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	if (s->mail)
		dkim_keys_serve(s->role->dkim, s->sock);
	else
		keys_serve(s->role->keys, s->sock);
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
static void take_channel(struct role *r, uint64_t peer, int *fd)
{
	bool mail = peer == CONTROL_PEER_CORE;
	struct server **place = mail ? &r->core : &r->servers[r->next];
	struct server *s = xcalloc(1, sizeof(*s));
	*s = (struct server){ .role = r, .sock = STEAL_FD(fd), .mail = mail };
	server_stop(*place);
	*place = s;
	if (!mail)
		r->next = (r->next + 1) % KEYS_MAX_CHANNELS;
	if (r->started)
		server_start(s);
}

/* Relative to the folder, so that the role needs no right on the way to it; threads of one process have no
 * folder of their own. */
static int enter_folder(struct role *r)
{
	if (!r->conf)
		return ERR_INVAL;
	snprintf(r->dir, sizeof(r->dir), "%.*s/keys", SPAN_FMT(r->conf->data_dir));
	if (r->single)
		return 0;
	if (chdir(r->dir) != 0)
		return err_from_errno(errno);
	strcpy(r->dir, ".");
	return 0;
}

static int start(struct role *r, int control)
{
	_cleanup_(freep) char *user = r->conf ? span_dup(r->conf->user_keys) : xstrdup("");
	struct err_info info = { 0 };
	int e = enter_folder(r);
	if (e == 0 && !r->single)
		e = role_confine(user, SANDBOX_KEYS, r->dir);
	if (e == 0)
		e = dkim_keys_open(r->dir, &r->dkim, &info);
	if (e < 0) {
		log_event(LOG_ERROR, "keys.no_folder", F_STR("why", info.text), F_ERR(e));
		return e;
	}
	r->started = true;
	if (r->core)
		server_start(r->core);
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
			take_channel(r, id, fd);
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
	server_stop(r.core);
	dkim_keys_close(r.dkim);
	keys_free(r.keys);
	conf_unref(r.conf);
	return e > 0 || e == ERR_CLOSED ? 0 : 1;
}
