/* The resolver: libunbound behind a table of our own.
 *
 *   request --slot--> entry QUEUED -> ASKED -> DONE (kept until its TTL ends)
 *
 * Equal questions share an entry, so that a burst of mail to one domain asks once; at most
 * MAX_ASKED are with libunbound at a time.  An entry is evicted only when no request refers to it.
 * Everything runs on the loop's thread; libunbound's own thread is met only through ub_fd(). */
#include "dns/resolver.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unbound.h>

#include "base/map.h"
#include "sys/file.h"

enum {
	MAX_ENTRIES = 20000,
	MAX_ASKED = 1000,
	MAX_RECORDS = 100, /* of one answer; the rest is dropped */
	MAX_RDATA = 4096,  /* of one record */
	MAX_NAME = 253,
	TTL_MAX = 3600,
	TTL_NEGATIVE_MAX = 300,
	TTL_FAILED = 3, /* a failing server is not asked again at once */
};
#define QUESTION_DEADLINE (5 * USEC_SEC)
#define REQUEST_DEADLINE  (20 * USEC_SEC)

/* The root's key-signing keys, 2017 and 2024 (https://data.iana.org/root-anchors/). */
static const char root_anchor[] =
	". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n"
	". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n";

enum entry_state { QUEUED, ASKED, DONE };

struct slot {
	struct request *request;
	struct entry *entry;
	struct slot *next; /* of those that wait for the entry */
};

struct entry {
	struct resolver *resolver;
	span key; /* le16 type, name; in MEM as all else */
	struct arena mem;
	struct dns_answer answer;
	enum entry_state state;
	usec expires; /* monotonic */
	unsigned refs;
	int async_id;
	struct loop_timer deadline;
	struct slot *waiting;
	struct entry *prev, *next; /* in the resolver's list of its state */
};

struct request {
	struct resolver *resolver;
	resolver_fn *fn;
	void *arg;
	struct loop_timer deadline;
	size_t n, left;
	struct request *prev, *next;
	struct slot slots[];
};

struct entry_list {
	struct entry *first, *last;
};

struct resolver {
	struct loop *loop;
	struct ub_ctx *ub;
	struct loop_io *io;
	struct map *entries;
	struct entry_list lists[3]; /* by state; DONE: the oldest first */
	size_t asked;
	struct request *requests;
	bool closing;
};

static void list_add(struct entry_list *l, struct entry *e)
{
	e->prev = l->last;
	e->next = NULL;
	if (l->last)
		l->last->next = e;
	else
		l->first = e;
	l->last = e;
}

static void list_del(struct entry_list *l, struct entry *e)
{
	if (e->prev)
		e->prev->next = e->next;
	else
		l->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	else
		l->last = e->prev;
}

static void entry_set_state(struct entry *e, enum entry_state s)
{
	struct resolver *r = e->resolver;

	list_del(&r->lists[e->state], e);
	r->asked -= e->state == ASKED;
	e->state = s;
	r->asked += s == ASKED;
	list_add(&r->lists[s], e);
}

static void entry_free(struct entry *e)
{
	struct resolver *r = e->resolver;

	if (e->state == ASKED)
		ub_cancel(r->ub, e->async_id);
	loop_timer_stop(&e->deadline);
	list_del(&r->lists[e->state], e);
	r->asked -= e->state == ASKED;
	if (e->key.n > 0)
		map_del(r->entries, e->key);
	arena_done(&e->mem);
	free(e);
}

/* --- requests --- */

static void request_free(struct request *q)
{
	loop_timer_stop(&q->deadline);
	if (q->prev)
		q->prev->next = q->next;
	else
		q->resolver->requests = q->next;
	if (q->next)
		q->next->prev = q->prev;
	for (size_t i = 0; i < q->n; i++) {
		struct entry *e = q->slots[i].entry;

		if (--e->refs == 0 && e->key.n == 0)
			entry_free(e);
	}
	free(q);
}

/* Answers; what has no answer by now is a time-out. */
static void request_finish(struct request *q)
{
	struct arena mem _cleanup_(arena_donep);
	struct dns_answer *a;

	arena_init(&mem);
	a = arena_array(&mem, struct dns_answer, q->n);
	for (size_t i = 0; i < q->n; i++) {
		a[i] = q->slots[i].entry->answer;
		if (q->slots[i].entry->state != DONE) {
			a[i].status = DNS_TIMEOUT;
			a[i].why = SPAN("no answer in time");
		}
	}
	q->fn(q->arg, a, q->n);
	request_free(q);
}

static void slot_detach(struct slot *s)
{
	for (struct slot **p = &s->entry->waiting; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			return;
		}
}

static void request_late(void *arg)
{
	struct request *q = arg;

	for (size_t i = 0; i < q->n; i++)
		slot_detach(&q->slots[i]);
	request_finish(q);
}

/* --- entries --- */

static void start_queued(struct resolver *r);

static void entry_done(struct entry *e, enum dns_status status, uint32_t ttl, span why)
{
	struct slot *s = e->waiting;

	loop_timer_stop(&e->deadline);
	e->answer.status = status;
	e->answer.ttl = ttl;
	e->answer.why = why;
	e->expires = clock_mono() + ttl * USEC_SEC;
	e->waiting = NULL;
	entry_set_state(e, DONE);
	while (s) { /* a callback may ask again, so the list was taken first */
		struct slot *next = s->next;

		if (--s->request->left == 0)
			request_finish(s->request);
		s = next;
	}
}

static void entry_late(void *arg)
{
	struct entry *e = arg;
	struct resolver *r = e->resolver;

	ub_cancel(r->ub, e->async_id);
	entry_done(e, DNS_TIMEOUT, TTL_FAILED, SPAN("no answer in 5 seconds"));
	start_queued(r);
}

static void read_records(struct entry *e, const struct ub_result *u)
{
	size_t n = 0, count = 0;

	while (u->data[n] && n < MAX_RECORDS)
		n++;
	e->answer.records = arena_array(&e->mem, struct dns_record, n);
	for (size_t i = 0; i < n; i++) {
		span rdata = span_of(u->data[i], u->len[i] > 0 ? (size_t)u->len[i] : 0);

		/* One malformed record does not take the others with it. */
		if (rdata.n <= MAX_RDATA && dns_record_parse(e->answer.type, rdata, &e->mem,
							     &e->answer.records[count]) == 0)
			count++;
	}
	e->answer.n = count;
}

static void on_result(void *arg, int err, struct ub_result *u)
{
	struct entry *e = arg;
	struct resolver *r = e->resolver;
	uint32_t ttl = u && u->ttl > 0 ? (uint32_t)u->ttl : 0;
	enum dns_status status = DNS_SERVFAIL;
	span why = SPAN_NULL;

	if (err != 0 || !u) {
		ttl = TTL_FAILED;
		why = span_str(ub_strerror(err)); /* static text */
	} else if (u->bogus) {
		status = DNS_BOGUS;
		ttl = TTL_FAILED;
		why = arena_span(&e->mem, span_sub(span_str(u->why_bogus), 0, 300));
	} else if (u->rcode != 0 && !u->nxdomain) {
		ttl = TTL_FAILED;
		why = span_str(
			arena_printf(&e->mem, "the name servers answered with code %d", u->rcode));
	} else if (u->nxdomain) {
		status = DNS_NXDOMAIN;
		ttl = MIN(ttl, TTL_NEGATIVE_MAX);
	} else if (!u->havedata) {
		status = DNS_NODATA;
		ttl = MIN(ttl, TTL_NEGATIVE_MAX);
	} else {
		read_records(e, u);
		status = DNS_OK;
		ttl = MIN(ttl, TTL_MAX);
		if (e->answer.n == 0) {
			status = DNS_SERVFAIL;
			why = SPAN("no record of the answer is well-formed");
		}
	}
	e->answer.secure = u && u->secure;
	ub_resolve_free(u);
	entry_done(e, status, ttl, why);
	start_queued(r);
}

static void entry_start(struct entry *e)
{
	struct resolver *r = e->resolver;
	int err;

	entry_set_state(e, ASKED);
	loop_timer_arm(&e->deadline, QUESTION_DEADLINE);
	err = ub_resolve_async(r->ub, e->answer.name.p, (int)e->answer.type, 1, e, on_result,
			       &e->async_id);
	if (err != 0)
		entry_done(e, DNS_SERVFAIL, TTL_FAILED, span_str(ub_strerror(err)));
}

static void start_queued(struct resolver *r)
{
	while (!r->closing && r->lists[QUEUED].first && r->asked < MAX_ASKED)
		entry_start(r->lists[QUEUED].first);
}

/* Makes room for one more; entries in use stay, their number is bounded by the requests. */
static void evict(struct resolver *r)
{
	struct entry *e = r->lists[DONE].first;

	while (e && map_count(r->entries) >= MAX_ENTRIES) {
		struct entry *next = e->next;

		if (e->refs == 0)
			entry_free(e);
		e = next;
	}
}

static bool name_valid(span name)
{
	size_t label = 0;

	if (name.n > MAX_NAME)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if (c <= ' ' || c >= 0x7f || c == '\\' || ++label > 63) {
			return false;
		}
	}
	return name.n == 0 || label > 0;
}

static struct entry *entry_new(struct resolver *r, span key, span name,
			       const struct dns_question *q)
{
	struct entry *e = xcalloc(1, sizeof *e);

	evict(r);
	e->resolver = r;
	arena_init(&e->mem);
	e->key = arena_span(&e->mem, key);
	e->answer.name = arena_span(&e->mem, name);
	e->answer.type = q->type;
	if (name.n == 0)
		e->answer.name = SPAN(".");
	loop_timer_init(&e->deadline, r->loop, entry_late, e);
	e->state = QUEUED;
	list_add(&r->lists[QUEUED], e);
	map_put(r->entries, e->key, e);
	if (!name_valid(name))
		entry_done(e, DNS_NXDOMAIN, TTL_NEGATIVE_MAX, SPAN("this is not a domain name"));
	return e;
}

/* The entry for Q: a live one, or a fresh one. */
static struct entry *entry_find(struct resolver *r, const struct dns_question *q)
{
	char text[2 + 256] = { (char)(q->type & 0xff), (char)(q->type >> 8) };
	size_t n = MIN(q->name.n, sizeof text - 2);
	struct entry *e;
	span key;

	for (size_t i = 0; i < n; i++) {
		char c = q->name.p[i];

		text[2 + i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
	}
	if (n > 0 && text[2 + n - 1] == '.')
		n--;
	key = span_of(text, 2 + n);
	e = map_get(r->entries, key);
	if (e && e->state == DONE && e->expires <= clock_mono()) {
		if (e->refs == 0) {
			entry_free(e);
		} else {
			/* A request that waits for its other answers still shows it: it goes on
			 * without a key, and away with the last such request. */
			map_del(r->entries, key);
			e->key = SPAN_NULL;
		}
		e = NULL;
	}
	return e ? e : entry_new(r, key, span_from(key, 2), q);
}

void resolver_ask(struct resolver *r, const struct dns_question *q, size_t n, resolver_fn *fn,
		  void *arg)
{
	struct request *req = xcalloc(1, sizeof *req + n * sizeof req->slots[0]);

	*req = (struct request){ .resolver = r, .fn = fn, .arg = arg, .n = n, .next = r->requests };
	if (r->requests)
		r->requests->prev = req;
	r->requests = req;
	loop_timer_init(&req->deadline, r->loop, request_late, req);
	/* Held open by one until all are attached: an entry may be done at once. */
	req->left = 1;
	for (size_t i = 0; i < n; i++) {
		struct entry *e = entry_find(r, &q[i]);

		e->refs++;
		req->slots[i] = (struct slot){ .request = req, .entry = e };
		if (e->state == DONE)
			continue;
		req->slots[i].next = e->waiting;
		e->waiting = &req->slots[i];
		req->left++;
	}
	start_queued(r);
	if (--req->left == 0)
		request_finish(req);
	else
		loop_timer_arm(&req->deadline, REQUEST_DEADLINE);
}

void resolver_flush(struct resolver *r)
{
	for (struct entry *e = r->lists[DONE].first, *next; e; e = next) {
		next = e->next;
		e->expires = 0;
		if (e->refs == 0)
			entry_free(e);
	}
}

/* --- set-up --- */

static void on_readable(void *arg, unsigned events)
{
	struct resolver *r = arg;

	ub_process(r->ub);
}

static void config_text(struct buf *b, const struct resolver_conf *conf)
{
	buf_put_str(b, "server:\n"
		       " use-syslog: no\n"
		       " logfile: \"\"\n"
		       " verbosity: 0\n"
		       " msg-cache-size: 8m\n"
		       " rrset-cache-size: 16m\n"
		       " edns-buffer-size: 1232\n");
	if (!conf->allow_local)
		return;
	/* A server that is near caches for us; a short memory here shows its changes at once. */
	buf_put_str(b, " do-not-query-localhost: no\n"
		       " local-zone: \"test.\" nodefault\n"
		       " local-zone: \"invalid.\" nodefault\n"
		       " unblock-lan-zones: yes\n"
		       " insecure-lan-zones: yes\n"
		       " qname-minimisation: no\n"
		       " cache-max-ttl: 1\n"
		       " cache-max-negative-ttl: 1\n"
		       " infra-host-ttl: 1\n"
		       " infra-keep-probing: yes\n");
	/* RFC 6761 6.2: "test." exists in no public zone, so the root's key can only deny it. */
	if (conf->anchor_text.n == 0)
		buf_put_str(b, " domain-insecure: \"test.\"\n");
}

/* ub_ctx_set_option() does not know local-zone, so the text goes through a file in memory. */
static int configure_by_file(struct ub_ctx *ub, span text)
{
	int fd _cleanup_(close_fdp) = memfd_create("resolver", MFD_CLOEXEC);
	char path[32];
	int err;

	if (fd < 0)
		return ERR_IO;
	err = file_write_all(fd, text);
	if (err < 0)
		return err;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return ub_ctx_config(ub, path) == 0 ? 0 : ERR_INVAL;
}

static int add_anchors(struct ub_ctx *ub, span text, struct err_info *info)
{
	while (text.p) {
		span line = span_trim(span_cut(&text, '\n'));
		char *z _cleanup_(freep) = NULL;

		if (line.n == 0 || line.p[0] == ';')
			continue;
		z = span_dup(line);
		if (ub_ctx_add_ta(ub, z) != 0)
			return err_set(
				info, ERR_SYNTAX,
				"a line of the DNSSEC trust anchor is neither DS nor DNSKEY");
	}
	return 0;
}

static int configure(struct ub_ctx *ub, const struct resolver_conf *conf, struct err_info *info)
{
	struct buf text _cleanup_(buf_donep) = BUF_INIT(4096);
	char *forward _cleanup_(freep) = span_dup(conf->forward);
	char *stub _cleanup_(freep) = span_dup(conf->stub);
	char *zone _cleanup_(freep) = span_dup(conf->stub_zone);

	config_text(&text, conf);
	if (configure_by_file(ub, buf_span(&text)) < 0)
		return err_set(info, ERR_INVAL, "the resolver refused its settings");
	if (ub_ctx_async(ub, 1) != 0)
		return err_set(info, ERR_INTERNAL, "the resolver cannot run in a thread");
	if (*forward && ub_ctx_set_fwd(ub, forward) != 0)
		return err_set(info, ERR_INVAL, "dns.forward is not ADDRESS@PORT");
	if (*stub && ub_ctx_set_stub(ub, zone, stub, 0) != 0)
		return err_set(info, ERR_INVAL,
			       "dns.stub_zone and dns.stub are not a zone and ADDRESS@PORT");
	return add_anchors(ub, conf->anchor_text.n > 0 ? conf->anchor_text : span_str(root_anchor),
			   info);
}

/* Makes libunbound read all it needs.  The one use of ub_resolve(): "localhost" is answered from
 * its built-in zones without a packet.  Its thread is made with the first question instead of here,
 * so that the thread which parses the network's packets is born inside the sandbox. */
static int finalise(struct ub_ctx *ub, struct err_info *info)
{
	struct ub_result *u = NULL;
	int err = ub_resolve(ub, "localhost", DNS_A, 1, &u);

	ub_resolve_free(u);
	return err == 0 ? 0
			: err_set(info, ERR_INTERNAL, "the resolver does not start: %s",
				  ub_strerror(err));
}

int resolver_new(struct loop *l, const struct resolver_conf *conf, struct resolver **ret,
		 struct err_info *info)
{
	struct ub_ctx *ub = ub_ctx_create();
	struct resolver *r;
	int err;

	if (!ub)
		return err_set(info, ERR_NOMEM, "the resolver cannot be made");
	err = configure(ub, conf, info);
	if (err == 0)
		err = finalise(ub, info);
	if (err < 0) {
		ub_ctx_delete(ub);
		return err;
	}
	r = xcalloc(1, sizeof *r);
	r->loop = l;
	r->ub = ub;
	r->entries = map_new();
	r->io = loop_io_add(l, ub_fd(ub), LOOP_READ, on_readable, r);
	*ret = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	r->closing = true;
	while (r->requests)
		request_late(r->requests);
	for (size_t i = 0; i < ARRAY_LEN(r->lists); i++)
		while (r->lists[i].first)
			entry_free(r->lists[i].first);
	loop_io_del(r->io);
	ub_ctx_delete(r->ub);
	map_free(r->entries);
	free(r);
}
