/* The handshake pool: a handshake step may wait for keys, so it never runs on a loop.
 *
 * A loop hands a connection over when its socket is ready (front_int.h says who owns what), a
 * thread runs one step, and the loop gets it back with the result.  The queue is bounded by the
 * number of connections: each is in it at most once. */
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "role/front_int.h"
#include "tls/keys.h"

void handshake_pool_init(struct front *f)
{
	struct handshake_pool *p = &f->pool;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->tail = &p->first;
	for (size_t i = 0; i < ARRAY_LEN(p->threads); i++)
		p->threads[i] = (struct handshaker){ .front = f, .sock = -1, .new_sock = -1 };
}

/* The next connection, or NULL at the end; on the way a new keys channel is taken up. */
static struct conn *next_conn(struct handshaker *h)
{
	struct handshake_pool *p = &h->front->pool;
	pthread_mutex_lock(&p->lock);
	while (!p->first && !p->stop)
		pthread_cond_wait(&p->wake, &p->lock);
	struct conn *c = p->stop ? NULL : p->first;
	if (c) {
		p->first = c->next;
		if (!p->first)
			p->tail = &p->first;
	}
	int sock = STEAL_FD(&h->new_sock);
	pthread_mutex_unlock(&p->lock);
	if (sock >= 0) {
		close_fdp(&h->sock);
		h->sock = sock;
		keys_use_channel(sock);
	}
	return c;
}

static void step_done(void *arg)
{
	struct conn *c = arg;
	c->in_pool = false;
	conn_handshake_done(c);
}

static void *handshaker_main(void *arg)
{
	struct handshaker *h = arg;
	struct conn *c;
	while ((c = next_conn(h))) {
		c->tls_result = (uint8_t)tls_handshake(c->tls);
		loop_post(c->loop->loop, step_done, c);
	}
	return NULL;
}

int handshake_pool_start(struct front *f)
{
	struct handshake_pool *p = &f->pool;
	for (; p->started < ARRAY_LEN(p->threads); p->started++) {
		struct handshaker *h = &p->threads[p->started];
		if (pthread_create(&h->thread, NULL, handshaker_main, h) != 0)
			return ERR_NOMEM;
	}
	return 0;
}

void handshake_pool_channel(struct front *f, int fd)
{
	struct handshake_pool *p = &f->pool;
	pthread_mutex_lock(&p->lock);
	struct handshaker *h = &p->threads[p->next_channel++ % ARRAY_LEN(p->threads)];
	int old = h->new_sock;
	h->new_sock = fd;
	pthread_mutex_unlock(&p->lock);
	close_fdp(&old);
}

void handshake_pool_stop(struct front *f)
{
	struct handshake_pool *p = &f->pool;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (; p->started > 0; p->started--)
		pthread_join(p->threads[p->started - 1].thread, NULL);
	while (p->first) {
		struct conn *c = p->first;
		p->first = c->next;
		c->tls_result = TLS_FAILED;
		loop_post(c->loop->loop, step_done, c);
	}
}

void handshake_pool_done(struct front *f)
{
	for (size_t i = 0; i < ARRAY_LEN(f->pool.threads); i++) {
		close_fdp(&f->pool.threads[i].sock);
		close_fdp(&f->pool.threads[i].new_sock);
	}
	pthread_cond_destroy(&f->pool.wake);
	pthread_mutex_destroy(&f->pool.lock);
}

void conn_handshake_step(struct conn *c)
{
	struct handshake_pool *p = &c->loop->front->pool;
	/* The fd stays silent (hang-up included) until the step is over. */
	loop_io_set(c->io, 0);
	c->in_pool = true;
	c->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->tail = c;
	p->tail = &c->next;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void conn_start_tls(struct conn *c)
{
	struct front_settings *now = front_settings_get(c->loop->front);
	if (!now->tls) {
		front_settings_unref(now);
		conn_kill(c, SESS_WHY_TLS);
		return;
	}
	c->state = CONN_HANDSHAKE;
	c->tls = tls_accept_new(now->tls, c->fd);
	/* Other servers would only be puzzled. */
	if (c->ops->proto != SESS_PROTO_SMTP)
		tls_conn_ask_cert(c->tls);
	front_settings_unref(now);
	c->timed = TIMED_HANDSHAKE;
	loop_timer_arm(&c->timer, HANDSHAKE_TIMEOUT);
	loop_io_set(c->io, LOOP_READ | LOOP_HUP);
}
