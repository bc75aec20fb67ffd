/* The HTTP client, by libcurl; runs in `out` only, on its loop, and asks no resolver: the caller
 * brings the addresses. */
#pragma once

#include "http/http.h"
#include "sys/loop.h"

#define HTTP_ACTIVE_MAX	   256 /* requests at once */
#define HTTP_ADDRESSES_MAX 8   /* of one host, tried in order of the system's preference */

/* Once per process, before the sandbox. */
int http_init(struct err_info *info);

struct http_client;
/* TRUST is called with TRUST_ARG and an SSL_CTX for each TLS connection that verifies by the
 * configured anchors, and puts them in (tls_client_trust() of tls/tls.h). */
struct http_client *http_client_new(struct loop *l, void (*trust)(void *arg, void *ssl_ctx),
				    void *trust_arg);
/* Requests under way are answered (TIMEOUT) first.  NULL is fine. */
void http_client_free(struct http_client *c);
size_t http_client_active(const struct http_client *c);

typedef void http_done_fn(void *arg, const struct http_answer *a);
/* Does R, and calls DONE once, on the loop's thread, maybe before this returns; what the answer
 * points to lives until DONE returns.  ADDRS: of the URL's host, without ports (ignored where R->to
 * is set).  FD: the body if R->body is empty and R->body_size is not 0; taken over, -1 if none. */
void http_client_ask(struct http_client *c, const struct http_request *r,
		     const struct sockaddr_any *addrs, size_t n, int fd, http_done_fn *done,
		     void *arg);
/* Is A an address of this host, a private network, or otherwise none of the public internet (RFC
 * 6890)? */
bool http_address_local(const struct sockaddr_any *a);
