/* Requests by libcurl's multi interface, driven by our loop: libcurl says which sockets it watches
 * and when it wants to be called, we call.  What it could do by itself and must not (names, proxies,
 * redirects, files of anchors) is switched off request by request. */
#include "http/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

enum { ANSWER_HEADER_MAX = 16 * 1024, ANSWER_HEADERS = 100, WHY_MAX = 200 };

struct http_client {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	void (*trust)(void *arg, void *ssl_ctx);
	void *trust_arg;
	struct request *first;
	size_t active;
};

/* A socket of libcurl's. */
struct watch {
	struct http_client *client;
	struct loop_io *io;
	curl_socket_t fd;
};

struct request {
	struct http_client *client;
	struct request *prev, *next;
	CURL *easy;
	struct curl_slist *headers, *names;
	int fd;
	uint64_t at, size; /* of the body in fd */
	size_t answer_max;
	bool local, refused, too_big;
	struct http_header got[ANSWER_HEADERS];
	size_t n_got;
	struct arena mem; /* of what came */
	struct buf body;
	http_done_fn *done;
	void *arg;
	char error[CURL_ERROR_SIZE];
};

int http_init(struct err_info *info)
{
	CURLcode e = curl_global_init(CURL_GLOBAL_DEFAULT);

	return e == CURLE_OK ? 0 : err_set(info, ERR_INTERNAL, "HTTP: %s", curl_easy_strerror(e));
}

/* ------------------------------------------------------------------ addresses */

struct network {
	uint32_t address, mask;
};

static bool v4_local(uint32_t a)
{
	static const struct network local[] = {
		{ 0x00000000, 0xff000000 }, /* 0/8, this network */
		{ 0x0a000000, 0xff000000 }, /* 10/8 */
		{ 0x64400000, 0xffc00000 }, /* 100.64/10, shared */
		{ 0x7f000000, 0xff000000 }, /* 127/8 */
		{ 0xa9fe0000, 0xffff0000 }, /* 169.254/16, link */
		{ 0xac100000, 0xfff00000 }, /* 172.16/12 */
		{ 0xc0000000, 0xffffff00 }, /* 192.0.0/24, protocols */
		{ 0xc0a80000, 0xffff0000 }, /* 192.168/16 */
		{ 0xc6120000, 0xfffe0000 }, /* 198.18/15, benchmarks */
		{ 0xe0000000, 0xe0000000 }, /* multicast and above */
	};

	for (size_t i = 0; i < ARRAY_LEN(local); i++)
		if ((a & local[i].mask) == local[i].address)
			return true;
	return false;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool http_address_local(const struct sockaddr_any *a)
{
	const uint8_t *p = a->in6.sin6_addr.s6_addr;

	if (a->sa.sa_family == AF_INET)
		return v4_local(ntohl(a->in.sin_addr.s_addr));
	if (a->sa.sa_family != AF_INET6)
		return true;
	if (be32(p) == 0x0064ff9b) /* 64:ff9b::/96, an IPv4 address behind a translator */
		return v4_local(be32(p + 12));
	if (p[0] == 0x20 && p[1] == 0x02) /* 6to4 */
		return v4_local(be32(p + 2));
	return (p[0] & 0xe0) != 0x20; /* global unicast is 2000::/3 */
}

/* ------------------------------------------------------------------ libcurl's sockets and time */

static void look_for_ends(struct http_client *c);

static void on_ready(void *arg, unsigned events)
{
	struct watch *w = arg;
	struct http_client *c = w->client;
	int mask = 0, running;

	mask |= events & LOOP_READ ? CURL_CSELECT_IN : 0;
	mask |= events & LOOP_WRITE ? CURL_CSELECT_OUT : 0;
	mask |= events & LOOP_HUP ? CURL_CSELECT_ERR : 0;
	curl_multi_socket_action(c->multi, w->fd, mask, &running); /* W may be gone then */
	look_for_ends(c);
}

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *client, void *socket)
{
	struct http_client *c = client;
	struct watch *w = socket;
	unsigned events = 0;

	if (what == CURL_POLL_REMOVE) {
		if (w)
			loop_io_del(w->io);
		free(w);
		curl_multi_assign(c->multi, fd, NULL);
		return 0;
	}
	events |= what & CURL_POLL_IN ? LOOP_READ : 0;
	events |= what & CURL_POLL_OUT ? LOOP_WRITE : 0;
	if (w) {
		loop_io_set(w->io, events);
		return 0;
	}
	w = xcalloc(1, sizeof *w);
	w->client = c;
	w->fd = fd;
	w->io = loop_io_add(c->loop, fd, events, on_ready, w);
	curl_multi_assign(c->multi, fd, w);
	return 0;
}

static int on_timer_set(CURLM *multi, long ms, void *client)
{
	struct http_client *c = client;

	if (ms < 0)
		loop_timer_stop(&c->timer);
	else
		loop_timer_arm(&c->timer, ms * USEC_MSEC);
	return 0;
}

static void on_time(void *arg)
{
	struct http_client *c = arg;
	int running;

	curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look_for_ends(c);
}

/* The last word about where we connect to, whatever named the address. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	struct request *r = arg;
	struct sockaddr_any a = { 0 };

	if (to->addrlen > sizeof a)
		return CURL_SOCKET_BAD;
	memcpy(&a, &to->addr, to->addrlen);
	if (!r->local && http_address_local(&a)) {
		r->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ------------------------------------------------------------------ bytes */

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct request *r = arg;

	if (buf_put(&r->body, p, size * n) < 0) {
		r->too_big = true;
		return 0;
	}
	return size * n;
}

static bool printable(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' && s.p[i] != '\t')
			return false;
	return true;
}

/* One line of the answer's header.  A new status line begins a new answer (after 100 Continue). */
static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct request *r = arg;
	span line = span_of(p, size * n);
	size_t colon = span_find(line, ':');
	struct http_header *h;
	span name, value;
	char *lower;

	if (span_starts(line, SPAN("HTTP/"))) {
		r->n_got = 0;
		return line.n;
	}
	if (colon == SPAN_NPOS || line.p[0] == ' ' || line.p[0] == '\t')
		return line.n;
	name = span_sub(line, 0, colon);
	value = span_trim(span_from(line, colon + 1));
	if (!printable(value))
		return line.n;
	if (r->n_got == ANSWER_HEADERS || r->mem.used + line.n > ANSWER_HEADER_MAX) {
		r->too_big = true;
		return 0;
	}
	lower = arena_cstr(&r->mem, name);
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] <= ' ' || name.p[i] > '~' || strchr("\"(),/;<=>?@[\\]{}", name.p[i]))
			return line.n; /* no name: nobody asks for it */
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] = (char)(lower[i] | 0x20);
	}
	h = &r->got[r->n_got++];
	*h = (struct http_header){ span_of(lower, name.n), arena_span(&r->mem, value) };
	return name.n ? line.n : 0;
}

static size_t on_read(char *p, size_t size, size_t n, void *arg)
{
	struct request *r = arg;
	size_t want = (size_t)MIN(r->size - r->at, (uint64_t)(size * n));
	ssize_t got = want ? pread(r->fd, p, want, (off_t)r->at) : 0;

	if (got < 0 || (want && got == 0))
		return CURL_READFUNC_ABORT;
	r->at += (uint64_t)got;
	return (size_t)got;
}

/* A kept connection may turn out to be dead after the first bytes: libcurl starts over. */
static int on_seek(void *arg, curl_off_t at, int origin)
{
	struct request *r = arg;

	if (origin != SEEK_SET || at < 0 || (uint64_t)at > r->size)
		return CURL_SEEKFUNC_FAIL;
	r->at = (uint64_t)at;
	return CURL_SEEKFUNC_OK;
}

static CURLcode on_ssl(CURL *easy, void *ssl_ctx, void *arg)
{
	struct http_client *c = arg;

	c->trust(c->trust_arg, ssl_ctx);
	return CURLE_OK;
}

/* ------------------------------------------------------------------ the end of a request */

static void request_free(struct request *r)
{
	struct http_client *c = r->client;

	if (r->easy) {
		curl_multi_remove_handle(c->multi, r->easy);
		curl_easy_cleanup(r->easy);
	}
	*(r->prev ? &r->prev->next : &c->first) = r->next;
	if (r->next)
		r->next->prev = r->prev;
	c->active--;
	curl_slist_free_all(r->headers);
	curl_slist_free_all(r->names);
	close_fdp(&r->fd);
	arena_done(&r->mem);
	buf_done(&r->body);
	free(r);
}

static enum http_fail fail_of(const struct request *r, CURLcode e)
{
	if (r->refused)
		return HTTP_FAIL_REFUSED;
	if (r->too_big)
		return HTTP_FAIL_TOOBIG;
	switch (e) {
	case CURLE_OK:
		return HTTP_FAIL_NONE;
	case CURLE_COULDNT_RESOLVE_HOST:
		return HTTP_FAIL_NAME;
	case CURLE_COULDNT_CONNECT:
		return HTTP_FAIL_CONNECT;
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_FAIL_TIMEOUT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_FAIL_TLS;
	case CURLE_ABORTED_BY_CALLBACK: /* the body could not be read */
	case CURLE_READ_ERROR:
		return HTTP_FAIL_REQUEST;
	default:
		return HTTP_FAIL_PROTOCOL;
	}
}

static const char *const fail_text[] = {
	[HTTP_FAIL_REFUSED] = "its address belongs to this host or to a private network",
	[HTTP_FAIL_TOOBIG] = "the answer is too large",
};

static void finish(struct request *r, CURLcode e)
{
	struct buf why _cleanup_(buf_donep) = BUF_INIT(8 * WHY_MAX);
	struct http_answer a = { .fail = fail_of(r, e) };
	long status = 0;

	curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
	if (a.fail == HTTP_FAIL_NONE && (status < 100 || status > 999))
		a.fail = HTTP_FAIL_PROTOCOL;
	if (a.fail == HTTP_FAIL_NONE) {
		a.status = (unsigned)status;
		a.headers = r->got;
		a.n_headers = r->n_got;
		a.body = buf_span(&r->body);
	} else {
		const char *known = a.fail < ARRAY_LEN(fail_text) ? fail_text[a.fail] : NULL;

		if (!known) /* libcurl's words may hold names from the peer's certificate */
			known = *r->error ? r->error : curl_easy_strerror(e);
		buf_put_escaped(&why, span_str(known), WHY_MAX);
		a.why = buf_span(&why);
	}
	r->done(r->arg, &a);
	request_free(r);
}

static void look_for_ends(struct http_client *c)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(c->multi, &left))) {
		struct request *r = NULL;
		CURLcode e = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
		finish(r, e);
	}
}

/* ------------------------------------------------------------------ the beginning */

static bool ours(span name) /* a header that libcurl makes */
{
	static const char *const names[] = { "host",   "content-length", "transfer-encoding",
					     "expect", "connection",	 "te" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (span_ieq_str(name, names[i]))
			return true;
	return false;
}

static void set_headers(struct request *r, const struct http_request *in)
{
	bool typed = false;

	for (size_t i = 0; i < in->n_headers; i++) {
		const struct http_header *h = &in->headers[i];
		struct buf line _cleanup_(buf_donep) = BUF_INIT(64 * 1024);

		if (ours(h->name))
			continue;
		typed |= span_ieq_str(h->name, "content-type");
		buf_put_span(&line, h->name);
		buf_put_str(&line, h->value.n ? ": " : ";"); /* ";": libcurl's word for empty */
		buf_put_span(&line, h->value);
		if (!line.failed)
			r->headers = curl_slist_append(r->headers, buf_cstr(&line));
	}
	r->headers = curl_slist_append(r->headers, "Expect:");
	if (!typed) /* libcurl would call it a form */
		r->headers = curl_slist_append(r->headers, "Content-Type:");
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
}

static void set_body(struct request *r, const struct http_request *in)
{
	char *method _cleanup_(freep) = span_dup(in->method);
	bool post = span_eq_str(in->method, "POST") || in->body_size;

	if (span_eq_str(in->method, "HEAD"))
		curl_easy_setopt(r->easy, CURLOPT_NOBODY, 1L);
	else if (!post && span_eq_str(in->method, "GET"))
		curl_easy_setopt(r->easy, CURLOPT_HTTPGET, 1L);
	else
		curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method);
	if (!post)
		return;
	curl_easy_setopt(r->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(r->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)in->body_size);
	if (in->body.n || !in->body_size) {
		curl_easy_setopt(r->easy, CURLOPT_COPYPOSTFIELDS, in->body.n ? in->body.p : "");
		return;
	}
	r->size = in->body_size;
	curl_easy_setopt(r->easy, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(r->easy, CURLOPT_READDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(r->easy, CURLOPT_SEEKDATA, r);
}

/* "[2001:db8::1]" or "192.0.2.1" */
static void put_address(struct buf *b, const struct sockaddr_any *a)
{
	char ip[SOCK_TEXT];

	sock_ip_text(a, ip);
	buf_printf(b, a->sa.sa_family == AF_INET6 ? "[%s]" : "%s", ip);
}

/* Where to connect to: libcurl is never left to ask for a name. */
static void set_target(struct request *r, const struct http_request *in, const struct http_url *url,
		       const struct sockaddr_any *addrs, size_t n)
{
	struct buf b _cleanup_(buf_donep) = BUF_INIT(2048);
	bool fixed = in->to.sa.sa_family != AF_UNSPEC;

	if (fixed) {
		buf_put_str(&b, "::");
		put_address(&b, &in->to);
		buf_printf(&b, ":%u", sock_port(&in->to));
	} else if (url->numeric) {
		return;
	} else {
		/* "+": forgotten again after a minute */
		buf_printf(&b, "+%.*s:%u:", SPAN_FMT(url->host), url->port);
		for (size_t i = 0; i < MIN(n, (size_t)HTTP_ADDRESSES_MAX); i++) {
			buf_put_str(&b, i ? "," : "");
			put_address(&b, &addrs[i]);
		}
	}
	r->names = curl_slist_append(NULL, buf_cstr(&b));
	curl_easy_setopt(r->easy, fixed ? CURLOPT_CONNECT_TO : CURLOPT_RESOLVE, r->names);
}

static void set_tls(struct request *r, const struct http_request *in)
{
	struct curl_blob ca = { (void *)(uintptr_t)in->ca_pem.p, in->ca_pem.n, CURL_BLOB_COPY };

	curl_easy_setopt(r->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(r->easy, CURLOPT_CAINFO, NULL);
	curl_easy_setopt(r->easy, CURLOPT_CAPATH, NULL);
	if (ca.len) {
		curl_easy_setopt(r->easy, CURLOPT_CAINFO_BLOB, &ca);
		return;
	}
	curl_easy_setopt(r->easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl);
	curl_easy_setopt(r->easy, CURLOPT_SSL_CTX_DATA, r->client);
}

static void set_manners(struct request *r, const struct http_request *in)
{
	CURL *e = r->easy;

	curl_easy_setopt(e, CURLOPT_PRIVATE, r);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, r->error);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR,
			 in->flags & HTTP_TLS_ONLY ? "https" : "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_PROXY, ""); /* not even by the environment */
	curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "Postrider/" POSTRIDER_VERSION);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)MAX(in->timeout / USEC_MSEC, 1));
	curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, r);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, r);
	if (!r->local) { /* a kept connection would pass by on_socket() */
		curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
		curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	}
}

static struct request *request_new(struct http_client *c, const struct http_request *in, int fd)
{
	struct request *r = xcalloc(1, sizeof *r);

	r->client = c;
	r->fd = fd;
	r->local = in->flags & HTTP_LOCAL;
	arena_init(&r->mem);
	buf_init(&r->body, MIN(in->answer_max, HTTP_ANSWER_MAX));
	r->next = c->first;
	if (r->next)
		r->next->prev = r;
	c->first = r;
	c->active++;
	return r;
}

static void answer_failure(enum http_fail fail, span why, int fd, http_done_fn *done, void *arg)
{
	struct http_answer a = { .fail = fail, .why = why };

	close_fdp(&fd);
	done(arg, &a);
}

void http_client_ask(struct http_client *c, const struct http_request *in,
		     const struct sockaddr_any *addrs, size_t n, int fd, http_done_fn *done,
		     void *arg)
{
	char *url_text _cleanup_(freep) = span_dup(in->url);
	bool fixed = in->to.sa.sa_family != AF_UNSPEC;
	struct http_url url;
	struct request *r;

	if (http_url_parse(in->url, &url) < 0 || (!url.tls && (in->flags & HTTP_TLS_ONLY)) ||
	    (in->body_size && !in->body.n && fd < 0)) {
		answer_failure(HTTP_FAIL_REQUEST, SPAN("the URL cannot be used"), fd, done, arg);
		return;
	}
	if (!fixed && !url.numeric && n == 0) {
		answer_failure(HTTP_FAIL_NAME, SPAN("the host has no address"), fd, done, arg);
		return;
	}
	if (c->active >= HTTP_ACTIVE_MAX) {
		answer_failure(HTTP_FAIL_BUSY, SPAN("too many requests at once"), fd, done, arg);
		return;
	}
	r = request_new(c, in, fd);
	r->done = done;
	r->arg = arg;
	r->easy = curl_easy_init();
	set_manners(r, in);
	set_tls(r, in);
	set_headers(r, in);
	set_body(r, in);
	set_target(r, in, &url, addrs, n);
	curl_easy_setopt(r->easy, CURLOPT_URL, url_text);
	curl_multi_add_handle(c->multi, r->easy); /* goes on in on_time() */
}

struct http_client *http_client_new(struct loop *l, void (*trust)(void *arg, void *ssl_ctx),
				    void *trust_arg)
{
	struct http_client *c = xcalloc(1, sizeof *c);

	c->loop = l;
	c->trust = trust;
	c->trust_arg = trust_arg;
	c->multi = curl_multi_init();
	loop_timer_init(&c->timer, l, on_time, c);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer_set);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, 16L);
	curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	return c;
}

void http_client_free(struct http_client *c)
{
	if (!c)
		return;
	while (c->first)
		finish(c->first, CURLE_OPERATION_TIMEDOUT);
	curl_multi_cleanup(c->multi);
	loop_timer_stop(&c->timer);
	free(c);
}

size_t http_client_active(const struct http_client *c)
{
	return c->active;
}
