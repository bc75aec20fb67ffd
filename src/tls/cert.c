/* Certificates for tests and the lab, and the self-signed one of a fresh server. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/arena.h"
#include "sys/sock.h"
#include "tls/keys.h"
#include "tls/tls_int.h"

struct keys_ca {
	X509 *cert;
	EVP_PKEY *key;
};

/* Peers' clocks may be a little behind ours. */
#define BACKDATE (USEC_SEC * 3600)

static bool set_serial(X509 *x)
{
	unsigned char bytes[16];
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] = (unsigned char)((bytes[0] & 0x3f) |
				   0x40); /* positive, full length (RFC 5280 4.1.2.2) */
	BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return ok;
}

static bool set_times(X509 *x, usec now, unsigned days)
{
	time_t from = (time_t)((now - BACKDATE) / USEC_SEC);
	time_t until = (time_t)(now / USEC_SEC) + (time_t)days * 86400;
	return ASN1_TIME_set(X509_getm_notBefore(x), from) &&
	       ASN1_TIME_set(X509_getm_notAfter(x), until);
}

static bool set_subject(X509 *x, span common_name)
{
	/* X.520's upper bound; the names that count are in subjectAltName. */
	common_name.n = MIN(common_name.n, (size_t)64);
	return X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, MBSTRING_UTF8,
					  (const unsigned char *)common_name.p, (int)common_name.n,
					  -1, 0) == 1;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_add_ext(x, e, -1) == 1;
	X509_EXTENSION_free(e);
	return ok;
}

/* Built as values: as text, a name with a comma would become two. */
static bool push_name(GENERAL_NAMES *names, int type, const void *p, size_t n)
{
	ASN1_STRING *value = ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING
								    : V_ASN1_IA5STRING);
	GENERAL_NAME *name = GENERAL_NAME_new();
	if (!value || !name || ASN1_STRING_set(value, p, (int)n) != 1) {
		ASN1_STRING_free(value);
		GENERAL_NAME_free(name);
		return false;
	}
	GENERAL_NAME_set0_value(name, type, value);
	if (sk_GENERAL_NAME_push(names, name) > 0)
		return true;
	GENERAL_NAME_free(name);
	return false;
}

static bool push_ip(GENERAL_NAMES *names, span text)
{
	struct sockaddr_any a;
	if (sock_parse_ip(text, 0, &a) < 0)
		return false;
	if (a.sa.sa_family == AF_INET)
		return push_name(names, GEN_IPADD, &a.in.sin_addr, 4);
	return push_name(names, GEN_IPADD, &a.in6.sin6_addr, 16);
}

static bool set_alt_names(X509 *x, const span *dns, size_t n, const span *ips, size_t n_ips)
{
	GENERAL_NAMES *names = GENERAL_NAMES_new();
	bool ok = names != NULL;
	for (size_t i = 0; ok && i < n; i++)
		ok = dns[i].n > 0 && dns[i].n <= 253 &&
		     push_name(names, GEN_DNS, dns[i].p, dns[i].n);
	for (size_t i = 0; ok && i < n_ips; i++)
		ok = push_ip(names, ips[i]);
	ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0) == 1;
	GENERAL_NAMES_free(names);
	return ok;
}

/* A certificate over KEY with everything but extensions, issuer and signature. */
static X509 *cert_start(EVP_PKEY *key, span common_name, usec now, unsigned days)
{
	X509 *x = X509_new();
	if (x && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	    set_times(x, now, days) && set_subject(x, common_name) && X509_set_pubkey(x, key) == 1)
		return x;
	X509_free(x);
	return NULL;
}

static bool put_bio(BIO *bio, struct buf *b)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	return n > 0 && buf_put(b, p, (size_t)n) == 0;
}

static bool put_cert(X509 *x, struct buf *b)
{
	BIO *bio = BIO_new(BIO_s_mem());
	bool ok = bio && PEM_write_bio_X509(bio, x) == 1 && put_bio(bio, b);
	BIO_free(bio);
	return ok;
}

static bool put_key(EVP_PKEY *key, struct buf *b)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	bool ok = bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1 &&
		  put_bio(bio, b);
	BIO_free(bio);
	return ok;
}

int keys_ca_new(span common_name, usec now, unsigned days, struct keys_ca **ret,
		struct buf *ret_cert_pem)
{
	ERR_clear_error();
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key ? cert_start(key, common_name, now, days) : NULL;
	bool ok = x && X509_set_issuer_name(x, X509_get_subject_name(x)) == 1 &&
		  add_extension(x, x, NID_basic_constraints, "critical,CA:TRUE") &&
		  add_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		  add_extension(x, x, NID_subject_key_identifier, "hash") &&
		  X509_sign(x, key, EVP_sha256()) > 0 && put_cert(x, ret_cert_pem);
	if (!ok) {
		X509_free(x);
		EVP_PKEY_free(key);
		return ERR_INTERNAL;
	}
	struct keys_ca *ca = xmalloc(sizeof(*ca));
	*ca = (struct keys_ca){ .cert = x, .key = key };
	*ret = ca;
	return 0;
}

void keys_ca_free(struct keys_ca *ca)
{
	if (!ca)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca);
}

/* A server's certificate, by CA or, if that is NULL, by itself. */
static int issue(struct keys_ca *ca, const span *dns, size_t n, const span *ips, size_t n_ips,
		 usec now, unsigned days, struct buf *ret_cert_pem, struct buf *ret_key_pem)
{
	span name = n ? dns[0] : n_ips ? ips[0] : SPAN_NULL;
	if (name.n == 0)
		return ERR_INVAL;
	ERR_clear_error();
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = key ? cert_start(key, name, now, days) : NULL;
	X509 *issuer = ca ? ca->cert : x;
	bool ok = x && X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 &&
		  add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
		  add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") &&
		  add_extension(x, issuer, NID_ext_key_usage, "serverAuth") &&
		  add_extension(x, issuer, NID_subject_key_identifier, "hash") &&
		  add_extension(x, issuer, NID_authority_key_identifier, "keyid") &&
		  set_alt_names(x, dns, n, ips, n_ips) &&
		  X509_sign(x, ca ? ca->key : key, EVP_sha256()) > 0 && put_cert(x, ret_cert_pem) &&
		  put_key(key, ret_key_pem);
	X509_free(x);
	EVP_PKEY_free(key);
	return ok ? 0 : ERR_INTERNAL;
}

int keys_ca_issue(struct keys_ca *ca, const span *dns_names, size_t n, const span *ips,
		  size_t n_ips, usec now, unsigned days, struct buf *ret_cert_pem,
		  struct buf *ret_key_pem)
{
	return issue(ca, dns_names, n, ips, n_ips, now, days, ret_cert_pem, ret_key_pem);
}

int keys_self_signed(span dns_name, usec now, unsigned days, struct buf *ret_cert_pem,
		     struct buf *ret_key_pem)
{
	return issue(NULL, &dns_name, 1, NULL, 0, now, days, ret_cert_pem, ret_key_pem);
}

/* ------------------------------------------------------------------ addresses */

enum { EMAILS_MAX = 4096 };

/* Takes TEXT up if nothing in it could be taken for something else. */
static void put_email(struct buf *b, const ASN1_STRING *text)
{
	span s = span_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text));
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] == 0x7f)
			return;
	if (!s.n || b->n + s.n + 2 > EMAILS_MAX)
		return;
	if (b->n)
		buf_put_char(b, '\n');
	buf_put_span(b, s);
}

char *tls_cert_emails(X509 *x)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(EMAILS_MAX);
	GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const X509_NAME *subject = X509_get_subject_name(x);
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		if (n->type == GEN_EMAIL)
			put_email(&b, n->d.rfc822Name);
	}
	GENERAL_NAMES_free(names);
	/* RFC 5280 4.1.2.6: the subject's is the old place. */
	for (int at = -1; !b.n && (at = X509_NAME_get_index_by_NID(
					   subject, NID_pkcs9_emailAddress, at)) >= 0;)
		put_email(&b, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	ERR_clear_error();
	return b.n ? span_dup(buf_span(&b)) : NULL;
}
