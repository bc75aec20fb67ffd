/* Remembered passwords.
 *
 * A phone logs in every few minutes; argon2id each time would cost more than all its mail.  A good
 * password leaves HMAC(process key, account, generation, password), so that a changed account
 * matches nothing any more.  Four-way sets, the oldest is replaced: bounded, and no failure is
 * kept. */
#include "directory/directory_int.h"

#include <stdlib.h>

#include "base/id.h"
#include "tls/hash.h"

enum { CACHE_SETS = 1024, CACHE_WAYS = 4 };
static const usec cache_life = 600 * USEC_SEC;

struct auth_cache {
	pthread_mutex_t lock;
	uint8_t key[32];
	struct cache_entry {
		uint8_t mac[32];
		usec until; /* monotonic; 0: empty */
	} set[CACHE_SETS][CACHE_WAYS];
};

struct auth_cache *cache_new(void)
{
	struct auth_cache *c = xcalloc(1, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	random_bytes(c->key, sizeof(c->key));
	return c;
}

void cache_free(struct auth_cache *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	secret_wipe(c, sizeof(*c));
	free(c);
}

void cache_mac(const struct auth_cache *c, const struct directory_account *a, span password,
	       uint8_t ret[32])
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(PASSWORD_MAX + 64);
	buf_put(&b, a->id, ACCOUNT_ID_LEN);
	buf_put_le64(&b, a->generation);
	buf_put_span(&b, password);
	hmac_sha256(span_of(c->key, sizeof(c->key)), buf_span(&b), ret);
	secret_wipe(b.p, b.n);
}

static struct cache_entry *cache_set(struct auth_cache *c, const uint8_t mac[32])
{
	return c->set[(mac[0] | mac[1] << 8) % CACHE_SETS];
}

bool cache_knows(struct auth_cache *c, const uint8_t mac[32])
{
	usec now = clock_mono();
	bool known = false;
	pthread_mutex_lock(&c->lock);
	const struct cache_entry *e = cache_set(c, mac);
	for (int i = 0; i < CACHE_WAYS; i++)
		known |= e[i].until > now && secret_eq(e[i].mac, mac, 32);
	pthread_mutex_unlock(&c->lock);
	return known;
}

void cache_remember(struct auth_cache *c, const uint8_t mac[32])
{
	pthread_mutex_lock(&c->lock);
	struct cache_entry *e = cache_set(c, mac), *oldest = e;
	for (int i = 1; i < CACHE_WAYS; i++)
		if (e[i].until < oldest->until)
			oldest = &e[i];
	memcpy(oldest->mac, mac, 32);
	oldest->until = clock_mono() + cache_life;
	pthread_mutex_unlock(&c->lock);
}
