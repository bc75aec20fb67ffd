#include "guard/guard_int.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/log.h"

/* Hosts and networks with something on their account, for each limit: 1 MiB. */
enum { BUCKETS = 65536 };
#define MINUTE (60 * USEC_SEC)
#define HOUR   (60 * MINUTE)

enum { LOGIN_FAILURES = GUARD_LIMITS }; /* shares the buckets with enum guard_limit */

int guard_open(const char *path, guard_tell_fn *tell, void *arg, struct guard **ret,
	       struct err_info *info)
{
	struct guard *g = xcalloc(1, sizeof(*g));
	g->buckets = bucket_table_new(BUCKETS);
	g->tell = tell;
	g->arg = arg;
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->change, NULL);
	int r = guard_bans_open(g, path, info);
	if (r < 0)
		guard_close(g);
	else
		*ret = g;
	return r;
}

void guard_close(struct guard *g)
{
	if (!g)
		return;
	guard_bans_close(g);
	bucket_table_free(g->buckets);
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->change);
	free(g);
}

static bool trusted(const struct conf *conf, const struct sockaddr_any *peer)
{
	return sock_is_local(peer) || net_list_has(conf->trusted.nets, conf->trusted.n, peer);
}

/* ------------------------------------------------------------------ rates */

static usec take_one(struct guard *g, unsigned what, const struct net *who, struct bucket_rate rate)
{
	struct {
		struct net net;
		uint8_t what;
	} key = { *who, (uint8_t)what };
	pthread_mutex_lock(&g->lock);
	usec wait = bucket_take(g->buckets, span_of(&key, sizeof(key)), rate, clock_mono());
	pthread_mutex_unlock(&g->lock);
	return wait;
}

/* One of WHAT for PEER's host and its network; *RET_WHO is the one that has had enough. */
static bool take(struct guard *g, const struct conf *conf, unsigned what,
		 const struct sockaddr_any *peer, struct bucket_rate rate, struct net *ret_who)
{
	const struct net who[] = { net_of_host(peer), net_of_site(peer) };
	uint64_t wide = (uint64_t)rate.count * conf->net_factor;
	for (size_t i = 0; i < ARRAY_LEN(who); i++) {
		if (take_one(g, what, &who[i], rate) > 0) {
			*ret_who = who[i];
			return false;
		}
		rate.count = (uint32_t)MIN(wide, (uint64_t)UINT32_MAX);
	}
	return true;
}

bool guard_take(struct guard *g, const struct conf *conf, enum guard_limit what,
		const struct sockaddr_any *peer)
{
	struct net who;
	if (!g || trusted(conf, peer))
		return true;
	const struct bucket_rate rates[GUARD_LIMITS] = {
		[GUARD_MESSAGES] = { conf->message_rate, MINUTE },
		[GUARD_RECIPIENTS] = { conf->recipient_rate, MINUTE },
		[GUARD_UNKNOWN] = { conf->unknown_rcpts, HOUR },
	};
	return take(g, conf, what, peer, rates[what], &who);
}

void guard_error(struct guard *g, const struct conf *conf, struct sess *s)
{
	if (g && !trusted(conf, &s->peer))
		sess_hold(s, sess_tarpit(++s->errors, conf->tarpit_max));
}

/* ------------------------------------------------------------------ logins */

uint64_t guard_guess(span login, span password)
{
	/* Both hashed apart, so that no pair of lengths reads as another. */
	const uint64_t both[] = { hash_keyed(login), hash_keyed(password) };
	return hash_keyed(span_of(both, sizeof(both))) | 1;
}

/* Was this guess of this host counted before?  From now on it was. */
static bool known_guess(struct guard *g, const struct net *host, uint64_t guess)
{
	struct {
		uint64_t guess;
		struct net net;
		uint8_t pad[7];
	} key = { .guess = guess, .net = *host };
	uint64_t tag = hash_keyed(span_of(&key, sizeof(key))) | 1, *set;
	bool known = false;
	pthread_mutex_lock(&g->lock);
	set = g->guess[tag / 2 % GUESS_SETS];
	for (int i = 0; i < GUESS_WAYS; i++)
		known |= set[i] == tag;
	if (!known)
		set[g->next_way++ % GUESS_WAYS] = tag;
	pthread_mutex_unlock(&g->lock);
	return known;
}

bool guard_may_log_in(struct guard *g, const struct sess *s)
{
	return !g || !guard_is_banned(g, s->ops->proto, &s->peer);
}

bool guard_login_failed(struct guard *g, const struct conf *conf, struct sess *s, uint64_t guess)
{
	struct bucket_rate rate = { conf->auth_failures, HOUR };
	struct net host = net_of_host(&s->peer), who;
	if (!g || trusted(conf, &s->peer))
		return false;
	guard_error(g, conf, s);
	if ((guess && known_guess(g, &host, guess)) ||
	    take(g, conf, LOGIN_FAILURES, &s->peer, rate, &who) || conf->ban_time == 0)
		return false;
	guard_ban_now(g, &who, s->ops->proto, conf->ban_time,
		      who.bits == host.bits ? "too many wrong passwords"
					    : "too many wrong passwords from the network");
	return true;
}
