/* Bringing one role up, first or again, and wiring it to its peers. */
#include "role/parent_int.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/channel.h"
#include "sys/spawn.h"

static const struct {
	int (*run)(int control, bool single);
	enum control_peer as; /* what this role is to its peers */
} role_table[ROLE_COUNT] = {
	[ROLE_KEYS] = { role_keys, CONTROL_PEER_KEYS },
	[ROLE_CORE] = { role_core, CONTROL_PEER_CORE },
	[ROLE_OUT] = { role_out, CONTROL_PEER_OUT },
	[ROLE_FRONT] = { role_front, CONTROL_PEER_FRONT },
};

struct thread_start {
	enum role_kind kind;
	int control;
};

static void *role_thread(void *arg)
{
	struct thread_start s = *(struct thread_start *)arg;

	free(arg);
	role_table[s.kind].run(s.control, true);
	return NULL;
}

static int start_thread(struct role_state *r, int control, struct err_info *info)
{
	struct thread_start *s = xcalloc(1, sizeof *s);

	*s = (struct thread_start){ r->kind, control };
	if (pthread_create(&r->thread, NULL, role_thread, s) != 0) {
		free(s);
		return err_set(info, ERR_AGAIN, "cannot start a thread");
	}
	r->threaded = true;
	return 0;
}

/* A send to a role that has just died fails; its death is seen and handled elsewhere. */
static void send_to(const struct role_state *r, enum control_type type, uint64_t id, span payload,
		    int fd)
{
	if (r->control >= 0)
		(void)channel_send_fd(r->control, (uint16_t)type, id, payload, fd);
}

static void send_pieces(const struct role_state *r, enum control_type type, span text)
{
	for (size_t at = 0; at < text.n; at += CHANNEL_MAX / 2)
		send_to(r, type, 0, span_sub(text, at, CHANNEL_MAX / 2), -1);
	send_to(r, type, 0, SPAN_NULL, -1);
}

void parent_send_config(struct parent *p, struct role_state *r)
{
	if (r->kind == ROLE_CORE)
		send_to(r, CONTROL_PASSWORDS, 0, buf_span(&p->passwords), -1);
	send_to(r, CONTROL_CONF, p->generation, buf_span(&p->conf_text), -1);
	if (r->kind == ROLE_KEYS)
		for (size_t i = 0; i < p->n_certs; i++)
			send_to(r, CONTROL_KEY, i, buf_span(&p->certs[i].key), -1);
	if (r->kind == ROLE_FRONT) {
		for (size_t i = 0; i < p->n_certs; i++)
			send_to(r, CONTROL_CERT, i, buf_span(&p->certs[i].chain), -1);
		if (p->client_ca.n)
			send_to(r, CONTROL_CLIENT_CA, 0, buf_span(&p->client_ca), -1);
		send_to(r, CONTROL_CERTS_END, p->n_certs, SPAN_NULL, -1);
	}
}

/* N new channels between two roles, if both run; each learns of its end. */
static int wire(struct parent *p, enum role_kind a, enum role_kind b, unsigned n,
		struct err_info *info)
{
	struct role_state *ra = &p->roles[a], *rb = &p->roles[b];

	if (ra->control < 0 || rb->control < 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		int fds[2], e = channel_pair(fds);

		if (e < 0)
			return err_set(info, e, "cannot make a channel: %s", err_text(e));
		send_to(ra, CONTROL_CHANNEL, role_table[b].as, SPAN_NULL, fds[0]);
		send_to(rb, CONTROL_CHANNEL, role_table[a].as, SPAN_NULL, fds[1]);
		close(fds[0]);
		close(fds[1]);
	}
	return 0;
}

static int wire_all(struct parent *p, enum role_kind kind, struct err_info *info)
{
	static const struct {
		enum role_kind a, b;
	} pairs[] = { { ROLE_FRONT, ROLE_CORE },
		      { ROLE_FRONT, ROLE_KEYS },
		      { ROLE_CORE, ROLE_OUT },
		      { ROLE_CORE, ROLE_KEYS } };
	int e;

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		unsigned n = i == 0 ? p->front_loops : i == 1 ? CONTROL_KEYS_CHANNELS : 1;

		if (pairs[i].a != kind && pairs[i].b != kind)
			continue;
		e = wire(p, pairs[i].a, pairs[i].b, n, info);
		if (e < 0)
			return e;
	}
	return 0;
}

/* Everything a role needs before it locks itself in. */
static void send_start(struct parent *p, struct role_state *r)
{
	parent_send_config(p, r);
	switch (r->kind) {
	case ROLE_FRONT:
		for (size_t i = 0; i < p->n_listeners; i++)
			send_to(r, CONTROL_LISTEN, p->listener_ids[i], SPAN_NULL, p->listeners[i]);
		break;
	case ROLE_CORE:
		send_to(r, CONTROL_LISTEN_ADMIN, 0, SPAN_NULL, p->admin_listener);
		send_to(r, CONTROL_POISON, 0, SPAN_NULL, p->poison_fd);
		break;
	case ROLE_OUT:
		send_pieces(r, CONTROL_CA, buf_span(&p->ca));
		if (p->anchor.n)
			send_to(r, CONTROL_ANCHOR, 0, buf_span(&p->anchor), -1);
		break;
	case ROLE_KEYS:
	case ROLE_COUNT:
		break;
	}
}

int parent_start_role(struct parent *p, enum role_kind kind, struct err_info *info)
{
	struct role_state *r = &p->roles[kind];
	int fds[2], e = channel_pair(fds);

	if (e < 0)
		return err_set(info, e, "cannot make a channel: %s", err_text(e));
	if (p->options->single) {
		e = start_thread(r, fds[1], info);
	} else {
		r->pid = spawn_role(r->name, fds[1], info);
		e = r->pid < 0 ? (int)r->pid : 0;
		close(fds[1]);
	}
	if (e < 0) {
		r->pid = 0;
		close(fds[0]);
		return e;
	}
	/* A role that does not read its channel any more must not hold up the parent. */
	setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ .tv_sec = 2 },
		   sizeof(struct timeval));
	r->control = fds[0];
	r->ready = false;
	r->started = clock_mono();
	r->retry_at = 0;
	send_start(p, r);
	e = wire_all(p, kind, info);
	send_to(r, CONTROL_START, 0, SPAN_NULL, -1);
	return e;
}
