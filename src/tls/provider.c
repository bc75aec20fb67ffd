/* An in-process OpenSSL provider whose EC and RSA keys have no private half: a signature is asked
 * from the keys role, which gets the complete to-be-signed bytes and judges them.
 *
 * It offers key management and digest-sign, nothing else.  Everything public is answered by the
 * certificate's public key, kept inside.  An export of the private part fails; that is what makes
 * libcrypto sign here instead of moving the key to the default provider. */
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tls/tls_int.h"

#define PROVIDER_NAME  "remote-keys"
#define PROVIDER_QUERY "provider=" PROVIDER_NAME
#define PARAM_SPKI     "spki"	/* octets: DER SubjectPublicKeyInfo */
#define PARAM_NUMBER   "number" /* unsigned: which key of the keys role */

struct remote_key {
	EVP_PKEY *pub;
	unsigned number;
};

/* ------------------------------------------------------------------ key management */

static void *key_new(void *provctx)
{
	return OPENSSL_zalloc(sizeof(struct remote_key));
}

static void key_free(void *keydata)
{
	struct remote_key *k = keydata;
	if (!k)
		return;
	EVP_PKEY_free(k->pub);
	OPENSSL_free(k);
}

/* Claims the private half too: the holder of the number can sign. */
static int key_has(const void *keydata, int selection)
{
	const struct remote_key *k = keydata;
	return k->pub != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
	const struct remote_key *ka = a, *kb = b;
	return EVP_PKEY_eq(ka->pub, kb->pub) == 1;
}

static int key_import(void *keydata, int selection, const OSSL_PARAM params[])
{
	struct remote_key *k = keydata;
	const OSSL_PARAM *spki = OSSL_PARAM_locate_const(params, PARAM_SPKI);
	const OSSL_PARAM *number = OSSL_PARAM_locate_const(params, PARAM_NUMBER);
	const void *der = NULL;
	size_t n = 0;
	if (!spki || !number || !OSSL_PARAM_get_octet_string_ptr(spki, &der, &n) ||
	    !OSSL_PARAM_get_uint(number, &k->number))
		return 0;
	const unsigned char *at = der;
	k->pub = d2i_PUBKEY_ex(NULL, &at, (long)n, tls_server_libctx(), "provider=default");
	return k->pub != NULL;
}

static const OSSL_PARAM *key_import_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_octet_string(PARAM_SPKI, NULL, 0),
		OSSL_PARAM_uint(PARAM_NUMBER, NULL),
		OSSL_PARAM_END,
	};
	return types;
}

static int key_export(void *keydata, int selection, OSSL_CALLBACK *cb, void *arg)
{
	struct remote_key *k = keydata;
	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return 0;
	return EVP_PKEY_export(k->pub, EVP_PKEY_PUBLIC_KEY, cb, arg);
}

static const OSSL_PARAM *key_export_types(int selection)
{
	static const OSSL_PARAM none[] = { OSSL_PARAM_END };
	return none;
}

static int key_get_params(void *keydata, OSSL_PARAM params[])
{
	struct remote_key *k = keydata;
	return EVP_PKEY_get_params(k->pub, params);
}

static const OSSL_PARAM *key_gettable_params(void *provctx)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_END,
	};
	return types;
}

static const char *key_operation_ec(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *key_operation_rsa(int operation)
{
	return operation == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

#define ENTRY(id, fn)                    \
	{                                \
		id, (void (*)(void))(fn) \
	}
#define KEY_ENTRIES(operation)                                                                    \
	ENTRY(OSSL_FUNC_KEYMGMT_NEW, key_new), ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),           \
		ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has), ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match), \
		ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),                                      \
		ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),                          \
		ENTRY(OSSL_FUNC_KEYMGMT_EXPORT, key_export),                                      \
		ENTRY(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, key_export_types),                          \
		ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get_params),                              \
		ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable_params),                    \
		ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, operation)
static const OSSL_DISPATCH key_ec[] = { KEY_ENTRIES(key_operation_ec), { 0 } };
static const OSSL_DISPATCH key_rsa[] = { KEY_ENTRIES(key_operation_rsa), { 0 } };

/* ------------------------------------------------------------------ signatures */

struct remote_sig {
	const struct remote_key *key;
	enum keys_md md;
	enum keys_padding padding;
};

static void *sig_new(void *provctx, const char *propq)
{
	return OPENSSL_zalloc(sizeof(struct remote_sig));
}

static void sig_free(void *ctx)
{
	OPENSSL_free(ctx);
}

/* The salt length needs no look: TLS always uses the digest's. */
static int sig_set_params(void *ctx, const OSSL_PARAM params[])
{
	struct remote_sig *s = ctx;
	const OSSL_PARAM *mode =
		params ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE) : NULL;
	if (!mode)
		return 1;
	int number;
	const char *name;
	bool pss;
	if (OSSL_PARAM_get_int(mode, &number))
		pss = number == RSA_PKCS1_PSS_PADDING;
	else if (OSSL_PARAM_get_utf8_string_ptr(mode, &name))
		pss = strcmp(name, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
	else
		return 0;
	s->padding = pss ? KEYS_PAD_PSS : KEYS_PAD_PKCS1;
	return 1;
}

static const OSSL_PARAM *sig_settable_params(void *ctx, void *provctx)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_END,
	};
	return types;
}

static bool md_by_name(const char *name, enum keys_md *ret)
{
	static const struct {
		const char *name;
		enum keys_md md;
	} table[] = {
		{ "SHA256", KEYS_MD_SHA256 }, { "SHA2-256", KEYS_MD_SHA256 },
		{ "SHA384", KEYS_MD_SHA384 }, { "SHA2-384", KEYS_MD_SHA384 },
		{ "SHA512", KEYS_MD_SHA512 }, { "SHA2-512", KEYS_MD_SHA512 },
	};
	for (size_t i = 0; name && i < ARRAY_LEN(table); i++)
		if (OPENSSL_strcasecmp(name, table[i].name) == 0) {
			*ret = table[i].md;
			return true;
		}
	return false;
}

static int sig_init(void *ctx, const char *md, void *keydata, const OSSL_PARAM params[])
{
	struct remote_sig *s = ctx;
	if (keydata)
		s->key = keydata;
	if (!s->key || !md_by_name(md, &s->md))
		return 0;
	s->padding = EVP_PKEY_is_a(s->key->pub, "RSA") ? KEYS_PAD_PKCS1 : KEYS_PAD_ECDSA;
	return sig_set_params(s, params);
}

static int sig_sign(void *ctx, unsigned char *sig, size_t *siglen, size_t size,
		    const unsigned char *tbs, size_t n)
{
	struct remote_sig *s = ctx;
	size_t max = (size_t)EVP_PKEY_get_size(s->key->pub);
	if (!sig) {
		*siglen = max;
		return 1;
	}
	return keys_ask(s->key->number, s->md, s->padding, span_of(tbs, n), sig, MIN(size, max),
			siglen) == 0;
}

static const OSSL_DISPATCH signature[] = {
	ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, sig_new),
	ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, sig_free),
	ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, sig_init),
	ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, sig_sign),
	ENTRY(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, sig_set_params),
	ENTRY(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, sig_settable_params),
	{ 0 },
};

/* ------------------------------------------------------------------ the provider itself */

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_cache)
{
	static const OSSL_ALGORITHM keys[] = {
		{ "EC:id-ecPublicKey:1.2.840.10045.2.1", PROVIDER_QUERY, key_ec, NULL },
		{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROVIDER_QUERY, key_rsa, NULL },
		{ 0 },
	};
	static const OSSL_ALGORITHM signatures[] = {
		{ "ECDSA", PROVIDER_QUERY, signature, NULL },
		{ "RSA:rsaEncryption:1.2.840.113549.1.1.1", PROVIDER_QUERY, signature, NULL },
		{ 0 },
	};
	*no_cache = 0;
	switch (operation) {
	case OSSL_OP_KEYMGMT:
		return keys;
	case OSSL_OP_SIGNATURE:
		return signatures;
	}
	return NULL;
}

static int provider_start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
			  const OSSL_DISPATCH **ret_out, void **ret_provctx)
{
	static const OSSL_DISPATCH functions[] = {
		ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, provider_query),
		{ 0 },
	};
	*ret_out = functions;
	*ret_provctx = (void *)handle;
	return 1;
}

int provider_load(OSSL_LIB_CTX *ctx)
{
	if (!OSSL_PROVIDER_add_builtin(ctx, PROVIDER_NAME, provider_start) ||
	    !OSSL_PROVIDER_load(ctx, PROVIDER_NAME))
		return ERR_INTERNAL;
	return 0;
}

EVP_PKEY *provider_key(OSSL_LIB_CTX *ctx, EVP_PKEY *pub, uint32_t number)
{
	const char *type = EVP_PKEY_is_a(pub, "RSA")  ? "RSA"
			   : EVP_PKEY_is_a(pub, "EC") ? "EC"
						      : NULL;
	unsigned char *der = NULL;
	int n = type ? i2d_PUBKEY(pub, &der) : -1;
	if (n <= 0)
		return NULL;

	unsigned value = number;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(PARAM_SPKI, der, (size_t)n),
		OSSL_PARAM_construct_uint(PARAM_NUMBER, &value),
		OSSL_PARAM_construct_end(),
	};
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(ctx, type, PROVIDER_QUERY);
	if (c && EVP_PKEY_fromdata_init(c) == 1)
		EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, params);
	EVP_PKEY_CTX_free(c);
	OPENSSL_free(der);
	return key;
}
