/* HTTP requests that we make: the contract between core, which asks, and `out`, which does it
 * (http/client.h).
 *
 *     core                                   out
 *     HTTP_ASK  request (body: bytes or fd)  -->   name -> addresses, TLS, HTTP/1.1
 *                                            <--   HTTP_ANSWER  status, headers, body | failure
 *
 * Each ASK gets one ANSWER with its id.  Redirects are not followed: a 3xx is an answer like any
 * other.  There are no proxies, no cookies, no credentials from files, no compression, and nothing
 * but http and https.  A certificate must verify for the host's name. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "sys/sock.h"

enum { HTTP_ASK = 112, HTTP_ANSWER = 113 };

#define HTTP_URL_MAX	 2000
#define HTTP_HEADERS_MAX 32
#define HTTP_INLINE_MAX	 (64u * 1024)	     /* body of a request within its message */
#define HTTP_BODY_MAX	 (512u * 1024 * 1024) /* of a request with an fd */
#define HTTP_ANSWER_MAX	 (64u * 1024)	     /* body of an answer */
#define HTTP_TIMEOUT_MAX (600 * USEC_SEC)

/* --- URLs (RFC 3986, RFC 9110 4.2): the part that we take --- */
struct http_url {
	bool tls;
	span host; /* a name, or an address without brackets */
	uint16_t port;
	span path; /* with query; may be empty */
	bool numeric;
	struct sockaddr_any address; /* numeric: with port */
};
/* "http[s]://host[:port][/path][?query]" in printable ASCII.  No user information, no fragment, a
 * host of letters, digits, "-", "_" and "."; a host whose last label is a number is an address or
 * refused, so that no two readers see different hosts.  Spans point into TEXT.  ERR_SYNTAX,
 * ERR_TOOBIG.  Pure. */
int http_url_parse(span text, struct http_url *ret);

struct http_header {
	span name, value;
};

/* Flags of a request. */
enum {
	HTTP_LOCAL = 1, /* addresses of this host and of private networks may be asked, too, and the
			   connection may be used again: for what the administrator configured */
	HTTP_TLS_ONLY = 2, /* an http URL is refused */
};
struct http_request {
	span method; /* "GET", "POST", ...: letters */
	span url;
	struct http_header *headers; /* at most HTTP_HEADERS_MAX; of Content-Length we take care */
	size_t n_headers;
	span body;	    /* at most HTTP_INLINE_MAX, or else ... */
	uint64_t body_size; /* ... the message carries an fd, of which bytes 0..BODY_SIZE are sent */
	uint32_t answer_max; /* bytes of the answer's body; at most HTTP_ANSWER_MAX */
	usec timeout;	     /* of everything together */
	unsigned flags;
	struct sockaddr_any to; /* family 0: where the URL's host is; else there, whatever the URL says */
	span ca_pem;		/* trust anchors in place of the configured ones, or empty */
};

enum http_fail {
	HTTP_FAIL_NONE,
	HTTP_FAIL_REQUEST,  /* the request makes no sense; asking again will not help */
	HTTP_FAIL_BUSY,	    /* too many at once */
	HTTP_FAIL_NAME,	    /* the host's name has no address now */
	HTTP_FAIL_REFUSED,  /* its address may not be asked (HTTP_LOCAL) */
	HTTP_FAIL_CONNECT,
	HTTP_FAIL_TLS,	    /* also: the certificate does not verify */
	HTTP_FAIL_TIMEOUT,
	HTTP_FAIL_PROTOCOL, /* no HTTP, or it ended half-way */
	HTTP_FAIL_TOOBIG,   /* an answer larger than ANSWER_MAX, or with too much header */
};
struct http_answer {
	enum http_fail fail;
	span why;	 /* for people, harmless; empty if nothing failed */
	unsigned status; /* 0 if FAIL */
	struct http_header *headers; /* names in lower case */
	size_t n_headers;
	span body;
};

/* Message forms.  put: ERR_TOOBIG; get: ERR_PROTO, or ERR_TOOBIG where a limit above is passed;
 * spans point into the payload, arrays into MEM. */
int http_request_put(struct buf *b, const struct http_request *r);
int http_request_get(span payload, struct arena *mem, struct http_request *ret);
int http_answer_put(struct buf *b, const struct http_answer *a);
int http_answer_get(span payload, struct arena *mem, struct http_answer *ret);

/* First header NAME (lower case) of A, or an empty span. */
span http_header_value(const struct http_answer *a, const char *name);
