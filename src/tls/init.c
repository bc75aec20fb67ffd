/* Start of the library: everything that wants a file or a provider happens here, before the
 * sandbox. */
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <pthread.h>

#include "tls/hash.h"
#include "tls/tls_int.h"

static struct {
	pthread_once_t once;
	OSSL_LIB_CTX *server;
	int result;
	const char *why;
} library = { .once = PTHREAD_ONCE_INIT, .result = ERR_INTERNAL };

static void library_start(void)
{
	uint8_t drop[32];
	ERR_clear_error();
	library.why = "OpenSSL does not start";
	if (OPENSSL_init_ssl(0, NULL) != 1 || RAND_bytes(drop, sizeof(drop)) != 1)
		return;
	library.why = "the context for servers cannot be made";
	library.server = OSSL_LIB_CTX_new();
	if (!library.server || !OSSL_PROVIDER_load(library.server, "default") ||
	    RAND_bytes_ex(library.server, drop, sizeof(drop), 0) != 1)
		return;
	library.why = "the provider of remote keys cannot be loaded";
	if (provider_load(library.server) < 0)
		return;
	sha256(SPAN_NULL, drop); /* fetches the hashes */
	library.result = 0;
}

int tls_init(struct err_info *info)
{
	pthread_once(&library.once, library_start);
	if (library.result < 0)
		return err_set(info, library.result, "TLS: %s", library.why);
	return 0;
}

OSSL_LIB_CTX *tls_server_libctx(void)
{
	return library.server;
}

const char *tls_error_text(const char *fallback)
{
	unsigned long e = ERR_peek_last_error();
	const char *text = e ? ERR_reason_error_string(e) : NULL;
	return text ? text : fallback;
}
