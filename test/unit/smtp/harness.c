#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sasl/offer.h"

#define TRANSCRIPT_MAX (64u * 1024 * 1024)

/* ------------------------------------------------------------------ the easy core */

static void easy_item(struct harness *h, uint8_t flags, span line, struct buf *reply)
{
	bool answered = flags & SESS_ITEM_ANSWERED;

	if (h->park.mode == SESS_MODE_RAW) {
		h->park.mode = SESS_MODE_LINES;
		if (!answered) {
			h->park.flags |= SMTP_PARK_AUTHENTICATED;
			buf_put_str(reply, "235 2.7.0 core\r\n");
		}
	} else if (span_istarts(line, SPAN("RCPT"))) {
		bool bad = span_find_span(line, SPAN("bad")) != SPAN_NPOS;

		if (!bad)
			h->park.flags |= SMTP_PARK_HAS_RCPT;
		buf_put_str(reply, bad ? "550 5.1.1 core\r\n" : "250 2.1.5 core\r\n");
	} else if (span_istarts(line, SPAN("MAIL"))) {
		h->park.flags |= SMTP_PARK_HAS_SENDER;
	} else if (span_istarts(line, SPAN("AUTH"))) {
		h->park.mode = SESS_MODE_RAW;
		buf_put_str(reply, "334 \r\n");
	} else if (span_istarts(line, SPAN("STARTTLS"))) {
		h->starttls = true;
		buf_put_str(reply, "220 2.0.0 core\r\n");
	} else { /* HELO, EHLO, RSET */
		h->park.flags &= SMTP_PARK_AUTHENTICATED;
	}
}

static void easy_body(struct harness *h, uint32_t flags, span piece, struct buf *reply)
{
	if (!(flags & SESS_BODY_LAST))
		return;
	buf_put_str(reply, flags & SESS_BODY_BAD ? "550 5.6.0 core\r\n" : "250 2.0.0 core\r\n");
	h->park.flags &= SMTP_PARK_AUTHENTICATED;
}

static const struct harness_core easy = { .item = easy_item, .body = easy_body };

/* ------------------------------------------------------------------ the transcript */

static void note(struct harness *h, const char *what, span text)
{
	buf_put_str(&h->transcript, what);
	buf_put_escaped(&h->transcript, text, SIZE_MAX);
	buf_put_char(&h->transcript, '\n');
}

static void note_reply(struct harness *h, struct buf *reply)
{
	span rest = buf_span(reply);

	while (rest.n)
		note(h, "S: ", span_cut(&rest, '\n'));
	buf_reset(reply);
}

static void note_body(struct harness *h, const struct wire_out *out)
{
	char text[64];

	buf_put_span(&h->message, buf_span(out->body));
	if (!(out->body_flags & SESS_BODY_LAST))
		return;
	buf_put_escaped(&h->transcript, buf_span(&h->message), SIZE_MAX);
	buf_reset(&h->message);
	snprintf(text, sizeof(text), "\nEND %#x\n", out->body_flags);
	buf_put_str(&h->transcript, text);
}

/* ------------------------------------------------------------------ front */

bool harness_trusted;

void harness_open(struct harness *h, const struct wire_ops *ops, const struct harness_core *core,
		  bool tls)
{
	void *state = h->core_state;

	*h = (struct harness){ .ops = ops, .core = core ? core : &easy, .core_state = state };
	h->env = (struct wire_env){ .hostname = SPAN("mx.example.test"),
				    .proto = ops->proto,
				    .tls = tls,
				    .binding = tls,
				    .tls_available = !tls,
				    .peer_ip = SPAN("192.0.2.1"),
				    .max_size = 1024 * 1024,
				    .max_rcpts = 1000,
				    .trusted = harness_trusted,
				    .etrn = harness_trusted,
				    .hold_max = 86400 * USEC_SEC,
				    .auth = SASL_BIT(SCRAM_SHA256_PLUS) | SASL_BIT(SCRAM_SHA256) | SASL_BIT(PLAIN) |
					    SASL_BIT(LOGIN) };
	h->wire = calloc(1, ops->size);
	buf_init(&h->unread, 16 * 1024 * 1024);
	buf_init(&h->reply, 1024 * 1024);
	buf_init(&h->group, 96 * 1024);
	buf_init(&h->body, 96 * 1024);
	buf_init(&h->message, TRANSCRIPT_MAX);
	buf_init(&h->transcript, TRANSCRIPT_MAX);
	ops->open(h->wire, &h->env, &h->reply);
	note_reply(h, &h->reply);
}

static void trip(struct harness *h, const struct wire_out *out, bool body)
{
	uint8_t flags;
	span line;

	note_reply(h, &h->reply);
	if (body) {
		h->bodies++;
		note_body(h, out);
		h->core->body(h, out->body_flags, buf_span(out->body), &h->reply);
	} else {
		struct cursor c = cursor_of(buf_span(out->group));

		h->groups++;
		buf_reset(&h->message);
		while (sess_item_next(&c, &flags, &line)) {
			note(h, flags ? "i: " : "I: ", line);
			h->core->item(h, flags, line, &h->reply);
			note_reply(h, &h->reply);
		}
		if (c.bad)
			abort();
		if (h->core->group_end)
			h->core->group_end(h, &h->reply);
	}
	note_reply(h, &h->reply);
	h->closed |= h->core_closes;
	if (h->starttls) {
		h->starttls = false;
		buf_reset(&h->unread);
		h->env.tls = true;
		h->park = (struct wire_park){ 0 };
		h->ops->tls(h->wire, &h->env);
		buf_put_str(&h->transcript, "TLS\n");
	} else if (!h->closed) {
		h->ops->park(h->wire, &h->park);
	}
}

void harness_send(struct harness *h, span bytes)
{
	enum wire_step step = WIRE_REPLY;

	buf_put_span(&h->unread, bytes);
	while (!h->closed && step != WIRE_MORE) {
		struct wire_out out = { .reply = &h->reply, .group = &h->group, .body = &h->body };
		/* An exact copy, so that ASan sees a read past the end. */
		char *copy = malloc(h->unread.n ? h->unread.n : 1);
		size_t used = 0;

		if (h->unread.n)
			memcpy(copy, h->unread.p, h->unread.n);
		buf_reset(&h->group);
		buf_reset(&h->body);
		step = h->ops->feed(h->wire, span_of(copy, h->unread.n), &used, &out);
		free(copy);
		if (used > h->unread.n || h->group.failed || h->body.failed)
			abort();
		buf_consume(&h->unread, used);
		if (step == WIRE_FORWARD || step == WIRE_BODY)
			trip(h, &out, step == WIRE_BODY);
		note_reply(h, &h->reply);
		if (step == WIRE_CLOSE) {
			h->closed = true;
			h->why = out.why;
		}
	}
	if (h->closed)
		buf_reset(&h->unread);
	if (h->unread.n > h->ops->input_limit)
		abort(); /* the wire would wait for bytes that front does not read */
}

void harness_done(struct harness *h)
{
	h->ops->done(h->wire);
	free(h->wire);
	buf_done(&h->unread);
	buf_done(&h->reply);
	buf_done(&h->group);
	buf_done(&h->body);
	buf_done(&h->message);
	buf_done(&h->transcript);
}

void harness_run(const struct wire_ops *ops, const struct harness_core *core, bool tls, span input,
		 size_t step, uint32_t seed, struct buf *ret)
{
	struct harness h = { 0 };
	bool was_tls = tls;

	harness_open(&h, ops, core, tls);
	for (size_t at = 0, n; at < input.n && !h.closed && h.env.tls == was_tls; at += n) {
		seed = seed * 1664525u + 1013904223u;
		n = step == 0 ? input.n : step == 1 ? 1 : 1 + (seed >> 16) % step;
		harness_send(&h, span_sub(input, at, n));
		n = MIN(n, input.n - at);
	}
	if (h.closed)
		buf_printf(&h.transcript, "CLOSED %d\n", h.why);
	*ret = h.transcript;
	h.transcript = BUF_INIT(1);
	harness_done(&h);
}
