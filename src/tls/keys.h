/* The door to the keys role: private keys stay there, this is what front may ask.
 *
 * Messages on a keys channel (types 96-127): KEYS_SIGN {u32 key, u8 md, u8 padding, rest: the complete
 * to-be-signed bytes} -> KEYS_SIGNED {signature, empty = refused}.  keys signs only a TLS 1.3 "server
 * CertificateVerify" (RFC 8446 4.4.3) or a TLS 1.2 ECDHE ServerKeyExchange (RFC 8422 5.4), never a
 * bare digest; there is no raw and no decrypt operation. */
#pragma once

#include "base/err.h"
#include "base/span.h"

enum { KEYS_SIGN = 96, KEYS_SIGNED = 97 };

/* Front: the channel this thread's handshakes use (blocking fd; one per pool thread). */
void keys_use_channel(int sock);

/* Keys role: */
struct keys;
struct keys *keys_new(void);
void keys_free(struct keys *k);
/* Loads a PEM private key under NUMBER (reload replaces). */
int keys_load(struct keys *k, uint32_t number, span pem, struct err_info *info);
/* Serves one channel until it closes; blocking, one thread per channel. */
void keys_serve(struct keys *k, int sock);

/* Certificates for tests and the lab: a CA and leaves (ECDSA P-256), PEM out.  DAYS of validity from NOW. */
#include "base/buf.h"
#include "base/clock.h"
struct keys_ca;
int keys_ca_new(span common_name, usec now, unsigned days, struct keys_ca **ret, struct buf *ret_cert_pem);
int keys_ca_issue(struct keys_ca *ca, const span *dns_names, size_t n, const span *ips, size_t n_ips, usec now, unsigned days,
		  struct buf *ret_cert_pem, struct buf *ret_key_pem);
void keys_ca_free(struct keys_ca *ca);
/* A self-signed certificate, so that a fresh server has TLS before it has a real one. */
int keys_self_signed(span dns_name, usec now, unsigned days, struct buf *ret_cert_pem, struct buf *ret_key_pem);
