/* The transactions of a delivery on an open connection. */
#include "relay/flow_int.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "format/header.h"
#include "format/transcode.h"
#include "sys/file.h"

#define PIECE	   (64u * 1024)
#define HEADER_MAX (128u * 1024)

/* --- the body --- */

/* The body behind a descriptor: a large one is a file already, a smaller one gets a file in memory.
 */
static int body_file(struct delivery *d, span body)
{
	int fd _cleanup_(close_fdp) = memfd_create("body", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return ERR_IO;
	err = file_write_all(fd, body);
	return err < 0 ? err : STEAL_FD(&fd);
}

static int prepare_body(struct delivery *d, struct relay_send *s, struct buf *body)
{
	struct queue *q = d->relay->env->queue;
	int fd = queue_body_fd(q, &d->lease), err;

	if (fd >= 0) {
		d->body_fd = fd;
		return 0;
	}
	if (fd != ERR_NOENT)
		return fd;
	err = queue_body_read(q, &d->lease, 0, d->lease.size, body);
	if (err < 0)
		return err;
	if (body->n != d->lease.size)
		return ERR_CORRUPT;
	s->body = buf_span(body);
	return 0;
}

/* Reads the message once through T: with OUT, its result goes to FD. */
static int transcode_pass(struct delivery *d, struct transcode *t, struct buf *out, int fd)
{
	struct buf piece _cleanup_(buf_donep) = BUF_INIT(PIECE);

	for (uint64_t at = 0; at < d->lease.size; at += PIECE) {
		int err;

		buf_reset(&piece);
		err = queue_body_read(d->relay->env->queue, &d->lease, at, PIECE, &piece);
		if (err < 0)
			return err;
		if (!out) {
			transcode_scan(t, buf_span(&piece));
			continue;
		}
		buf_reset(out);
		err = transcode_put(t, buf_span(&piece), out);
		if (err == 0)
			err = file_write_all(fd, buf_span(out));
		if (err < 0)
			return err;
	}
	return 0;
}

/* The message for a peer that takes seven bits only (RFC 6152 section 3).  ERR_NOENT: it fits as it is;
 * ERR_UNSUPPORTED: it cannot be made to. */
static int downgrade(struct delivery *d, struct relay_send *s)
{
	struct buf out _cleanup_(buf_donep) = BUF_INIT(4 * PIECE + TRANSCODE_HELD);
	struct transcode *t = transcode_new(TRANSCODE_7BIT);
	int fd _cleanup_(close_fdp) = -1;
	int err = transcode_pass(d, t, NULL, -1);

	if (err == 0) {
		enum transcode_verdict v = transcode_scanned(t);

		if (v != TRANSCODE_NEEDED)
			err = v == TRANSCODE_AS_IS ? ERR_NOENT : ERR_UNSUPPORTED;
	}
	if (err == 0) {
		fd = file_spool_open(d->relay->env->spool_dir);
		err = fd < 0 ? fd : transcode_pass(d, t, &out, fd);
	}
	if (err == 0) {
		buf_reset(&out);
		err = transcode_end(t, &out);
	}
	if (err == 0)
		err = file_write_all(fd, buf_span(&out));
	transcode_free(t);
	if (err < 0)
		return err;
	s->size = (uint64_t)lseek(fd, 0, SEEK_CUR);
	s->body_8bit = false;
	d->body_fd = STEAL_FD(&fd);
	event_str(event_note(&d->events, "relay.downgraded"), "to", "7bit", &d->mem);
	return 0;
}

/* Does the header hold what only SMTPUTF8 may carry?  The sender may have asked for it needlessly
 * (RFC 6531 3.4).  1, 0, or an error. */
static int header_is_wide(struct delivery *d)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(HEADER_MAX);
	int err = queue_body_read(d->relay->env->queue, &d->lease, 0,
				  MIN(d->lease.size, HEADER_MAX), &b);
	size_t n = err < 0 ? 0 : header_size(buf_span(&b));

	for (size_t i = 0; i < n; i++)
		if (b.p[i] & 0x80)
			return 1;
	return err < 0 ? err : 0;
}

/* Why the message cannot be made fit for the peer: D->unfit, ERR_UNSUPPORTED. */
static int unfit(struct delivery *d, const char *status, const char *text)
{
	d->unfit = (struct relay_reason){ status, span_str(text) };
	return ERR_UNSUPPORTED;
}

/* Makes up for what the peer does not offer. */
static int fit(struct delivery *d, struct relay_send *s)
{
	unsigned ext = d->conn->peer.extensions;
	int err;

	if (s->smtputf8 && !(ext & RELAY_EXT_SMTPUTF8)) {
		err = header_is_wide(d);
		if (err != 0)
			return err < 0 ? err
				       : unfit(d, "5.6.7",
					       "the message's header needs SMTPUTF8, which the "
					       "peer does not offer");
		s->smtputf8 = false;
	}
	if (!s->body_8bit || (ext & RELAY_EXT_8BITMIME))
		return ERR_NOENT;
	err = downgrade(d, s);
	return err != ERR_UNSUPPORTED
		       ? err
		       : unfit(d, "5.6.3",
			       "the peer takes 7 bits only, and the message cannot be converted");
}

/* --- the order to out --- */

static int prepare(struct delivery *d)
{
	const struct queue_lease *l = &d->lease;
	struct conf *conf _cleanup_(conf_unrefp) = relay_conf(d->relay);
	struct buf body _cleanup_(buf_donep) = BUF_INIT(l->size);
	struct relay_rcpt rcpts[RELAY_RCPTS_MAX];
	struct relay_send s;
	int err;

	relay_fill_send(
		&(struct relay_part){ &d->conn->peer, l, d->rcpt_from, d->rcpt_n, clock_wall() },
		&s);
	s.sender = mail_reverse_path(d->relay->env, l->sender, l->route, &d->mem);
	if (d->verp && span_eq(s.sender, l->sender))
		s.sender = mail_verp_path(l->sender, l->rcpts[d->rcpt_from].address, &d->mem);
	s.chunking = conf->relay_chunking;
	s.rcpts = rcpts;
	for (size_t i = 0; i < d->rcpt_n; i++) {
		const struct queue_rcpt *r = &l->rcpts[d->rcpt_from + i];

		rcpts[i] = (struct relay_rcpt){ r->address, r->original, r->notify };
	}
	err = fit(d, &s);
	if (err == ERR_NOENT)
		err = prepare_body(d, &s, &body);
	if (err < 0)
		return err;
	buf_reset(&d->payload);
	if (relay_send_put(&d->payload, &s) == 0)
		return 0;
	d->body_fd = body_file(d, s.body); /* it does not fit beside the envelope */
	if (d->body_fd < 0)
		return d->body_fd;
	s.body = SPAN_NULL;
	buf_reset(&d->payload);
	return relay_send_put(&d->payload, &s);
}

/* The connection ended before anything was said about the message: it goes elsewhere. */
static void lost_early(struct delivery *d, const struct relay_sent *s)
{
	struct conn *c = d->conn;
	bool fresh = c->served == 0;

	c->served = 0;
	if (!fresh || d->n_targets == 0) { /* it had gone stale while parked */
		d->rcpt_n = 0;
		delivery_resolve(d);
		return;
	}
	delivery_note_last(d, relay_fail_status(s->fail), s->why, NULL);
	d->at++;
	delivery_try_next(d);
}

static void prepared(void *arg)
{
	struct delivery *d = arg;
	struct conn *c = d->conn;
	int err = d->prepared;

	if (err == ERR_UNSUPPORTED) {
		delivery_end_with(d, &d->unfit);
	} else if (err < 0) {
		log_event(LOG_ERROR, "relay.body_unreadable", F_ID("id", &d->lease.id), F_ERR(err));
		delivery_end_with(
			d, &(struct relay_reason){
				   "4.3.0",
				   SPAN("the message cannot be read from the queue for now") });
	} else if (!c->open) { /* lost meanwhile, nothing was said */
		lost_early(d, &(struct relay_sent){
				      .fail = RELAY_FAIL_CLOSED,
				      .why = SPAN("the peer closed the idle connection") });
	} else {
		conn_enter(c, CONN_SENDING);
		c->begun = clock_mono();
		if (conn_send(c, RELAY_SEND, buf_span(&d->payload), d->body_fd) < 0)
			delivery_end_with(
				d, &(struct relay_reason){
					   "4.3.0", SPAN("the message could not be handed over") });
	}
	close_fdp(&d->body_fd);
	d->body_fd = -1;
	buf_done(&d->payload);
}

static void prepare_job(struct job *j)
{
	struct delivery *d = CONTAINER_OF(j, struct delivery, job);

	d->prepared = prepare(d);
	loop_post(d->relay->loop, prepared, d);
}

/* This host does not do, but another one may.  A connection that somebody else opened was not chosen
 * with this message's needs in mind. */
static void try_another(struct delivery *d, const struct relay_reason *reason)
{
	struct conn *c = d->conn;

	conn_hang_up(c);
	if (d->n_targets == 0) {
		delivery_resolve(d);
		return;
	}
	delivery_note_last(d, reason->status, reason->text, NULL);
	d->in_clear = false;
	d->at++;
	delivery_try_next(d);
}

void delivery_begin_send(struct delivery *d)
{
	struct conn *c = d->conn;
	struct relay_opened peer = c->peer;
	struct relay_reason reason;
	struct relay_part part;
	bool other;

	delivery_make_results(d);
	if (d->verp)
		peer.rcpt_max = 1;
	part = relay_part_of(&peer, &d->lease, d->rcpt_from, clock_wall());
	d->rcpt_n = part.n;
	if (!relay_suits(&part, &reason, &other)) {
		if (other)
			try_another(d, &reason);
		else
			delivery_end_with(d, &reason);
		return;
	}
	d->lease.sent_at = clock_wall();
	conn_enter(c, CONN_PREPARING);
	relay_post_job(d, prepare_job);
}

/* --- what came of it --- */

static void note_reply(struct delivery *d, size_t i)
{
	static const char *const outcome[] = { "delivered", "failed", "deferred", "released" };
	const struct queue_result *q = &d->results[i];
	struct event *e = event_note(&d->events, "relay.reply");

	event_span(e, "to", d->lease.rcpts[i].address, &d->mem);
	event_span(e, "remote", q->remote, &d->mem);
	/* A reused connection was opened by another message: its own journey tells how it travelled
	 * too. */
	if (d->conn && d->conn->tls.n)
		event_span(e, "tls", d->conn->tls, &d->mem);
	event_str(e, "result", outcome[q->outcome], &d->mem);
	event_str(e, "status", q->status, &d->mem);
	event_span(e, "reply", q->reply, &d->mem);
}

void delivery_sent(struct delivery *d, span payload)
{
	struct conn *c = d->conn;
	struct relay_sent s;
	span copy = arena_span(&d->mem, payload);

	if (relay_sent_get(copy, &d->mem, &s) < 0 || s.n_rcpts != d->rcpt_n)
		s = (struct relay_sent){ .fail = RELAY_FAIL_PROTOCOL,
					 .why = SPAN("the outcome is not known"),
					 .n_rcpts = d->rcpt_n,
					 .rcpts = arena_array(&d->mem, struct smtp_reply,
							      d->rcpt_n) };
	if (s.fail != RELAY_FAIL_NONE)
		c->open = false;
	if (s.fail == RELAY_FAIL_CLOSED && s.mail.code == 0 && d->rcpt_from == 0) {
		lost_early(d, &s);
		return;
	}
	c->served++;
	if (s.fail != RELAY_FAIL_NONE || relay_sent_away(&s))
		flow_failed(d, s.fail != RELAY_FAIL_NONE
				       ? s.why
				       : SPAN("it told us to come back later (421)"));
	else
		flow_succeeded(d);
	for (size_t i = 0; i < d->rcpt_n; i++) {
		struct queue_result *q = &d->results[d->rcpt_from + i];

		relay_verdict(&s, i, &d->mem, q);
		q->end = c->peer.extensions & RELAY_EXT_DSN ? END_PASSED_ON : END_RELAYED;
		q->remote = arena_span(&d->mem, c->remote);
		note_reply(d, d->rcpt_from + i);
	}
	d->rcpt_from += d->rcpt_n;
	if (d->rcpt_from == d->lease.n_rcpts)
		delivery_settle(d);
	else if (c->open && c->served < conn_serves(c))
		delivery_begin_send(d);
	else
		delivery_give_back(d, 0); /* the rest was not tried */
}
