/* A hostile peer: the first byte chooses the kind of connection and how the words are cut, the rest
 * is what it says.  Properties: bounded output, no bare CR or LF leaves, and the cuts change
 * nothing. */
#include <assert.h>
#include <stdint.h>

#include "relay/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Collects what the engine says and checks its line ends. */
static void drain(struct relay_client *c, struct buf *said)
{
	struct buf *out = relay_client_out(c);

	for (size_t i = 0; i < out->n; i++) {
		if (out->p[i] == '\n')
			assert(i > 0 && out->p[i - 1] == '\r');
		else if (out->p[i] == '\r')
			assert(i + 1 < out->n && out->p[i + 1] == '\n');
	}
	assert(out->n < 100000);
	buf_put_span(said, buf_span(out));
	buf_reset(out);
}

/* Goes on by itself wherever the engine waits for its caller; one transaction per connection. */
static void advance(struct relay_client *c, struct buf *said, unsigned *sends)
{
	struct relay_rcpt rcpts[] = { { SPAN("b@x"), SPAN("b"), 6 },
				      { SPAN("c\r\n@x"), SPAN_NULL, 0 },
				      { SPAN("d@x"), SPAN_NULL, 1 } };
	struct relay_send s = { .sender = SPAN("a@x"),
				.envid = SPAN("1"),
				.size = 9,
				.smtputf8 = true,
				.body_8bit = true,
				.chunking = true,
				.require_tls = true,
				.priority = 3,
				.by = true,
				.by_seconds = 7,
				.rcpts = rcpts,
				.n_rcpts = 3 };

	for (;;) {
		drain(c, said);
		switch (relay_client_state(c)) {
		case RELAY_CLIENT_STARTTLS:
			relay_client_tls(c, true, SPAN("T"));
			break;
		case RELAY_CLIENT_BODY:
			relay_client_body(c, SPAN(".a\n.\rb\r"));
			relay_client_body(c, SPAN("\n.."));
			relay_client_body_end(c);
			break;
		case RELAY_CLIENT_PARKED:
			if (*sends == 0)
				return;
			--*sends;
			relay_client_send(c, &s);
			if (relay_client_state(c) == RELAY_CLIENT_PARKED)
				return;
			break;
		default:
			return;
		}
	}
}

static void play(uint8_t how, span words, size_t step, struct buf *said, struct buf *outcome)
{
	/* With a user only those connections whose outcome is not compared: nonces are random. */
	bool log_in = (how & 3) != 0 && (how & 16);
	struct relay_open o = { .user = log_in ? SPAN("u") : SPAN_NULL,
				.password = SPAN("p"),
				.helo = SPAN("us"),
				.host = SPAN("h"),
				.tls = how & 3,
				.lmtp = how & 4,
				.implicit_tls = how & 8 };
	struct relay_client *c = relay_client_new(&o);
	unsigned sends = 1;

	advance(c, said, &sends);
	while (words.n > 0) {
		size_t n = MIN(step, words.n);

		relay_client_feed(c, span_sub(words, 0, n));
		advance(c, said, &sends);
		words = span_from(words, n);
	}
	relay_client_fail(c, RELAY_FAIL_CLOSED, SPAN("end"));
	relay_opened_put(outcome, relay_client_opened(c));
	relay_sent_put(outcome, relay_client_sent(c));
	relay_client_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf said[2] = { BUF_INIT(1 << 20), BUF_INIT(1 << 20) },
		   outcome[2] = { BUF_INIT(1 << 20), BUF_INIT(1 << 20) };
	struct arena mem;
	struct relay_open open;
	struct relay_opened opened;
	struct relay_send send;
	struct relay_sent sent;

	if (n == 0)
		return 0;
	play(p[0], span_of(p + 1, n - 1), 1, &said[0], &outcome[0]);
	play(p[0], span_of(p + 1, n - 1), 1 + p[0] / 16 * 5u, &said[1], &outcome[1]);
	/* A TLS handshake and a fresh transaction start where a chunk ends, so only connections
	 * without either are the same however they are cut. */
	if ((p[0] & 11) == 0 && span_find_span(span_of(p, n), SPAN("354")) == SPAN_NPOS) {
		span a = buf_span(&outcome[0]), b = buf_span(&outcome[1]);

		assert(a.n > 0 && b.n > 0 && a.p[0] == b.p[0]); /* how opening ended */
	}
	arena_init(&mem);
	relay_open_get(span_of(p, n), &open);
	relay_opened_get(span_of(p, n), &mem, &opened);
	relay_send_get(span_of(p, n), &mem, &send);
	relay_sent_get(span_of(p, n), &mem, &sent);
	arena_done(&mem);
	for (int i = 0; i < 2; i++) {
		buf_done(&said[i]);
		buf_done(&outcome[i]);
	}
	return 0;
}
