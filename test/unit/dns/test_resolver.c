/* The resolver against a name server of its own: one UDP socket on loopback that knows a few names
 * below "test." and counts what it is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "dns/resolver.h"

static int server = -1;
static atomic_int asked;
static pthread_t thread;
static uint16_t port;

/* Appends an answer record of the question's own name (a pointer to offset 12). */
static void put_rr(struct buf *b, uint16_t type, span rdata)
{
	const char head[] = { (char)0xc0, 12, (char)(type >> 8),    (char)type,	  0, 1, 0, 0,
			      0,	  60, (char)(rdata.n >> 8), (char)rdata.n };

	buf_put(b, head, sizeof head);
	buf_put_span(b, rdata);
}

/* The name of the question as text, lower case; *AT behind its type and class. */
static void question(const uint8_t *p, size_t n, char *name, size_t size, uint16_t *type,
		     size_t *at)
{
	size_t i = 12, k = 0;

	while (i < n && p[i]) {
		for (size_t j = 0; j < p[i] && k + 2 < size; j++)
			name[k++] = (char)(p[i + 1 + j] >= 'A' && p[i + 1 + j] <= 'Z'
						   ? p[i + 1 + j] + 32
						   : p[i + 1 + j]);
		name[k++] = '.';
		i += p[i] + 1u;
	}
	name[k] = 0;
	*type = (uint16_t)(p[i + 1] << 8 | p[i + 2]);
	*at = i + 5;
}

/* 0: no answer at all. */
static size_t respond(uint8_t *p, size_t n, struct buf *b)
{
	char name[300];
	uint16_t type;
	size_t at;
	uint8_t rcode = 0;

	question(p, n, name, sizeof name, &type, &at);
	atomic_fetch_add(&asked, 1);
	buf_reset(b);
	buf_put(b, p, at);
	if (strcmp(name, "silent.test.") == 0)
		return 0;
	if (strcmp(name, "mail.test.") == 0 && type == DNS_MX) {
		put_rr(b, DNS_MX,
		       SPAN("\x00\x14\x01"
			    "b\x04test\x00"));
		put_rr(b, DNS_MX,
		       SPAN("\x00\x0a\x01"
			    "a\x04test\x00"));
		b->p[7] = 2;
	} else if (strcmp(name, "a.test.") == 0 && type == DNS_A) {
		put_rr(b, DNS_A, SPAN("\x7f\x00\x00\x02"));
		b->p[7] = 1;
	} else if (strcmp(name, "broken.test.") == 0) {
		rcode = 2;
	} else if (strcmp(name, "a.test.") != 0 && strcmp(name, "mail.test.") != 0 &&
		   strcmp(name, "test.") != 0) {
		rcode = 3;
	}
	if (b->p[7] == 0) { /* negative answers are believed with an SOA */
		const char soa[] =
			"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00\x16\x00\x00\x00\x00\x00\x01"
			"\x00\x00\x00\x3c\x00\x00\x00\x3c\x00\x00\x00\x3c\x00\x00\x00\x3c";

		if (rcode != 2) {
			/* owned by "test.": its label ends 5 bytes before the name's end */
			size_t owner = at - 4 - 6;

			buf_put(b, soa, sizeof soa - 1);
			b->p[at] = (char)(0xc0 | owner >> 8);
			b->p[at + 1] = (char)owner;
		}
		b->p[9] = rcode != 2;
	} else {
		b->p[9] = 0;
	}
	b->p[2] = (char)0x84; /* an authoritative answer */
	b->p[3] = (char)rcode;
	b->p[10] = b->p[11] = 0; /* no EDNS */
	b->p[6] = b->p[8] = 0;
	return b->n;
}

static void *serve(void *arg)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(4096);
	uint8_t p[4096];

	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof from;
		ssize_t n = recvfrom(server, p, sizeof p, 0, (struct sockaddr *)&from, &len);

		if (n <= 1)
			return NULL;
		p[6] = p[7] = 0;
		if (n > 16 && respond(p, (size_t)n, &b) > 0)
			sendto(server, b.p, b.n, 0, (struct sockaddr *)&from, len);
	}
}

static int start_server(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (bind(server, (struct sockaddr *)&a, sizeof a) != 0 ||
	    getsockname(server, (struct sockaddr *)&a, &len) != 0)
		return -1;
	port = ntohs(a.sin_port);
	return pthread_create(&thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(port) };

	sendto(server, "", 1, 0, (struct sockaddr *)&a, sizeof a);
	pthread_join(thread, NULL);
	close(server);
	return 0;
}

/* --- what the tests see --- */

struct seen {
	struct loop *loop;
	struct arena mem;
	unsigned calls, stop_at;
	enum dns_status status[4];
	size_t n, records[4];
	span first;
	char ip[SOCK_TEXT];
};

static void answered(void *arg, const struct dns_answer *a, size_t n)
{
	struct seen *s = arg;

	s->calls++;
	s->n = n;
	for (size_t i = 0; i < n && i < 4; i++) {
		s->status[i] = a[i].status;
		s->records[i] = a[i].n;
		if (a[i].n > 0 && a[i].type == DNS_MX)
			s->first = arena_span(&s->mem, a[i].records[0].name);
		if (a[i].n > 0 && a[i].type == DNS_A)
			sock_ip_text(&a[i].records[0].addr, s->ip);
	}
	if (s->calls == s->stop_at)
		loop_stop(s->loop);
}

static struct resolver *make(struct seen *s)
{
	char text[64];
	struct resolver_conf conf = { .stub_zone = SPAN("test."), .allow_local = true };
	struct err_info info = { 0 };
	struct resolver *r = NULL;

	snprintf(text, sizeof text, "127.0.0.1@%u", port);
	conf.stub = span_str(text);
	*s = (struct seen){ .loop = loop_new(), .stop_at = 1 };
	arena_init(&s->mem);
	if (resolver_new(s->loop, &conf, &r, &info) < 0)
		fail_msg("%s", info.text);
	return r;
}

static void done(struct seen *s, struct resolver *r)
{
	resolver_free(r);
	loop_free(s->loop);
	arena_done(&s->mem);
}

static void test_answers(void **state)
{
	struct dns_question q[] = { { SPAN("mail.test"), DNS_MX },
				    { SPAN("A.Test."), DNS_A },
				    { SPAN("a.test"), DNS_AAAA },
				    { SPAN("nobody.test"), DNS_MX } };
	struct seen s;
	struct resolver *r = make(&s);

	resolver_ask(r, q, 4, answered, &s);
	loop_run(s.loop);
	assert_int_equal(s.n, 4);
	assert_int_equal(s.status[0], DNS_OK);
	assert_int_equal(s.records[0], 2);
	assert_true(span_eq_str(s.first, "a.test") || span_eq_str(s.first, "b.test"));
	assert_int_equal(s.status[1], DNS_OK);
	assert_string_equal(s.ip, "127.0.0.2");
	assert_int_equal(s.status[2], DNS_NODATA);
	assert_int_equal(s.status[3], DNS_NXDOMAIN);
	done(&s, r);
}

static void test_coalesced_and_cached(void **state)
{
	struct dns_question q = { SPAN("a.test"), DNS_A };
	struct seen s;
	struct resolver *r = make(&s);

	atomic_store(&asked, 0);
	s.stop_at = 50;
	for (int i = 0; i < 50; i++)
		resolver_ask(r, &q, 1, answered, &s);
	loop_run(s.loop);
	assert_int_equal(s.calls, 50);
	assert_true(atomic_load(&asked) <=
		    2); /* libunbound may ask for the zone's server besides */
	resolver_ask(r, &q, 1, answered, &s);
	assert_int_equal(s.calls, 51); /* cached: answered at once */
	resolver_flush(r);
	resolver_ask(r, &q, 1, answered, &s);
	assert_int_equal(s.calls, 51);
	s.stop_at = 52;
	loop_run(s.loop);
	done(&s, r);
}

static void test_invalid_names(void **state)
{
	struct dns_question q[] = { { SPAN("a b.test"), DNS_A }, { SPAN("a..test"), DNS_A } };
	struct seen s;
	struct resolver *r = make(&s);

	resolver_ask(r, q, 2, answered, &s);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.status[0], DNS_NXDOMAIN);
	assert_int_equal(s.status[1], DNS_NXDOMAIN);
	resolver_ask(r, q, 0, answered, &s);
	assert_int_equal(s.calls, 2);
	done(&s, r);
}

static void test_failures_are_temporary(void **state)
{
	struct dns_question q[] = { { SPAN("broken.test"), DNS_A },
				    { SPAN("silent.test"), DNS_A } };
	struct seen s;
	struct resolver *r = make(&s);
	usec start = clock_mono();

	resolver_ask(r, q, 2, answered, &s);
	loop_run(s.loop);
	assert_int_equal(s.status[0], DNS_SERVFAIL);
	assert_true(s.status[1] == DNS_TIMEOUT || s.status[1] == DNS_SERVFAIL);
	assert_true(clock_mono() - start < 15 * USEC_SEC);
	done(&s, r);
}

static void test_free_answers_open_requests(void **state)
{
	struct dns_question q = { SPAN("silent.test"), DNS_A };
	struct seen s;
	struct resolver *r = make(&s);

	resolver_ask(r, &q, 1, answered, &s);
	done(&s, r);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.status[0], DNS_TIMEOUT);
}

static void test_wrong_settings(void **state)
{
	struct resolver_conf conf = { .forward = SPAN("not an address"), .allow_local = true };
	struct loop *l = loop_new();
	struct err_info info = { 0 };
	struct resolver *r = NULL;

	assert_true(resolver_new(l, &conf, &r, &info) < 0);
	assert_non_null(strstr(info.text, "dns.forward"));
	assert_null(r);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_coalesced_and_cached),
		cmocka_unit_test(test_invalid_names),
		cmocka_unit_test(test_failures_are_temporary),
		cmocka_unit_test(test_free_answers_open_requests),
		cmocka_unit_test(test_wrong_settings),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
