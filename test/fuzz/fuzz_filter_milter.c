/* A hostile milter: the first byte chooses how its words are cut, the rest is what it says.
 * Properties: bounded output, results that survive the way to core, and the cuts change nothing. */
#include <assert.h>
#include <stdint.h>

#include "filter/headers.h"
#include "filter/milter.h"
#include "sys/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define HEADER "From: a@b\r\nSubject: x\r\n y\r\nno field\r\nTo: c\r\n\r\n"

struct play {
	struct milter *m;
	struct buf said, results;
	unsigned step;
};

static void drain(struct play *p)
{
	struct buf *out = milter_out(p->m), *body = milter_new_body(p->m);

	assert(out->n < 200000 && body->n < 2000000);
	buf_put_span(&p->said, buf_span(out));
	buf_put_span(&p->said, buf_span(body));
	buf_reset(out);
	buf_reset(body);
}

static void keep_result(struct play *p)
{
	size_t before = p->results.n;
	struct filter_result r;
	struct arena mem;

	arena_init(&mem);
	assert(filter_result_put(&p->results, milter_result(p->m)) == 0);
	assert(p->results.n - before <= CHANNEL_MAX);
	assert(filter_result_get(span_from(buf_span(&p->results), before), &mem, &r) == 0);
	arena_done(&mem);
}

/* Two recipients one by one, then the message. */
static void advance(struct play *p)
{
	static const span rcpts[] = { SPAN("a@x"), SPAN("b@x") };

	for (;;) {
		drain(p);
		if (milter_state(p->m) == MILTER_BUSY)
			return;
		if (milter_state(p->m) == MILTER_BODY) {
			milter_body(p->m, p->step < 10 ? SPAN("body\r\n") : SPAN_NULL);
			p->step += 5;
			continue;
		}
		keep_result(p);
		if (milter_over(p->m) || p->step >= 3)
			return;
		if (p->step < 2)
			milter_rcpts(p->m, &rcpts[p->step], 1);
		else
			milter_message(p->m, SPAN(HEADER));
		p->step++;
	}
}

static void play(struct play *p, span words, size_t step)
{
	struct filter_session s = { .id = SPAN("id"),
				    .hostname = SPAN("us.test"),
				    .helo = SPAN("he"),
				    .sender = SPAN("a@b"),
				    .size = 9 };

	sock_parse_ip(SPAN("192.0.2.1"), 25, &s.peer);
	p->m = milter_new(&s);
	advance(p);
	while (words.n && !milter_over(p->m)) {
		milter_feed(p->m, span_sub(words, 0, step));
		advance(p);
		words = span_from(words, step);
	}
	milter_fail(p->m, SPAN("end")); /* nothing, if it is over */
	milter_quit(p->m);
	keep_result(p);
	drain(p);
	milter_free(p->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct play a = { .said = BUF_INIT(16 << 20), .results = BUF_INIT(1 << 20) };
	struct play b = { .said = BUF_INIT(16 << 20), .results = BUF_INIT(1 << 20) };

	if (n < 1 || n > 200000)
		return 0;
	play(&a, span_of(p + 1, n - 1), 1 + p[0]);
	play(&b, span_of(p + 1, n - 1), n);
	assert(span_eq(buf_span(&a.said), buf_span(&b.said)));
	assert(span_eq(buf_span(&a.results), buf_span(&b.results)));
	buf_done(&a.said);
	buf_done(&a.results);
	buf_done(&b.said);
	buf_done(&b.results);
	return 0;
}
