/* Who may come: places, rates, bans.  The lock is held for a few look-ups at accept and one at
 * close; nothing here is asked for a command. */
#include <stdlib.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/log.h"
#include "role/front_int.h"

/* Descriptors that are no connections: loops, channels, listeners. */
#define OTHER_FDS 300
/* Hosts and networks whose rates are kept apart: 2 MiB. */
#define BUCKETS	   131072
#define USER_SHARE 4 /* a user of this machine gets a fourth of all places */
#define MINUTE	   (60 * USEC_SEC)

/* What the process can hold: a peer beyond it is told so, where accept() would leave it in the dark
 * and with it everybody else. */
static size_t room_of_process(void)
{
	struct rlimit fds;
	if (getrlimit(RLIMIT_NOFILE, &fds) != 0 || fds.rlim_cur == RLIM_INFINITY)
		return SIZE_MAX;
	return (size_t)MAX(fds.rlim_cur, (rlim_t)2 * OTHER_FDS) - OTHER_FDS;
}

void front_limits_init(struct front_limits *l)
{
	*l = (struct front_limits){ .by_peer = map_new(),
				    .room = room_of_process(),
				    .buckets = bucket_table_new(BUCKETS),
				    .bans = net_map_new() };
	pthread_mutex_init(&l->lock, NULL);
}

void front_limits_done(struct front_limits *l)
{
	size_t it = 0;
	void *ban;
	while (net_map_next(l->bans, &it, &ban))
		free(ban);
	net_map_free(l->bans);
	bucket_table_free(l->buckets);
	map_free(l->by_peer);
	pthread_mutex_destroy(&l->lock);
}

/* ------------------------------------------------------------------ bans */

/* As core told it, in our time. */
struct front_ban {
	struct net net;
	usec until[SESS_PROTO_COUNT]; /* monotonic; 0: none */
};

static usec until(uint64_t left, usec now)
{
	return left == 0 ? 0 : left > INT64_MAX / 2 ? INT64_MAX : now + (usec)left;
}

void front_limits_ban(struct front_limits *l, const struct sess_ban *told)
{
	usec now = clock_mono();
	bool any = false;
	struct front_ban *ban = xcalloc(1, sizeof(*ban));
	ban->net = told->net;
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++) {
		ban->until[i] = until(told->left[i], now);
		any |= ban->until[i] != 0;
	}
	pthread_mutex_lock(&l->lock);
	struct front_ban *old = any ? net_map_put(l->bans, &ban->net, ban)
				    : net_map_del(l->bans, &ban->net);
	pthread_mutex_unlock(&l->lock);
	free(old);
	if (!any)
		free(ban);
}

static bool is_banned(const struct front_limits *l, enum sess_proto proto,
		      const struct sockaddr_any *peer, usec now)
{
	int bits = 128;
	const struct front_ban *ban;
	while ((ban = net_map_match(l->bans, peer, &bits)))
		if (ban->until[proto] > now)
			return true;
	return false;
}

/* ------------------------------------------------------------------ places */

/* Of a user of this machine; no network's is as short. */
static span user_key(const struct sockaddr_any *peer)
{
	return span_of(&peer->user.uid, sizeof(peer->user.uid));
}

static uintptr_t places(const struct front_limits *l, span key)
{
	return (uintptr_t)map_get(l->by_peer, key);
}

static void set_places(struct front_limits *l, span key, uintptr_t v)
{
	if (v)
		map_put(l->by_peer, key, (void *)v);
	else
		map_del(l->by_peer, key);
}

static size_t all_places(const struct front_limits *l, const struct conf *conf)
{
	return MIN((size_t)conf->max_connections, l->room);
}

enum sess_why front_limits_place(struct front_limits *l, const struct conf *conf)
{
	pthread_mutex_lock(&l->lock);
	bool ok = l->total < all_places(l, conf) && l->busy_until < clock_mono();
	l->total += ok;
	pthread_mutex_unlock(&l->lock);
	return ok ? FRONT_WELCOME : SESS_WHY_LOAD;
}

void front_limits_leave(struct front_limits *l)
{
	pthread_mutex_lock(&l->lock);
	l->total--;
	pthread_mutex_unlock(&l->lock);
}

void front_limits_busy(struct front_limits *l, usec for_how_long)
{
	pthread_mutex_lock(&l->lock);
	l->busy_until = clock_mono() + for_how_long;
	pthread_mutex_unlock(&l->lock);
}

/* ------------------------------------------------------------------ peers */

/* Under the lock. */
static enum sess_why judge(struct front_limits *l, const struct conf *conf, enum sess_proto proto,
			   const struct sockaddr_any *peer)
{
	usec now = clock_mono();
	const struct net who[] = { net_of_host(peer), net_of_site(peer) };
	const uint64_t factor[] = { 1, conf->net_factor };
	if (is_banned(l, proto, peer, now))
		return SESS_WHY_BANNED;
	for (size_t i = 0; i < ARRAY_LEN(who); i++) {
		struct bucket_rate rate = { (uint32_t)MIN(conf->connection_rate * factor[i],
							  (uint64_t)UINT32_MAX),
					    MINUTE };
		if (places(l, net_key(&who[i])) >= conf->max_per_ip * factor[i] ||
		    bucket_take(l->buckets, net_key(&who[i]), rate, now) > 0)
			return SESS_WHY_RATE;
	}
	for (size_t i = 0; i < ARRAY_LEN(who); i++)
		set_places(l, net_key(&who[i]), places(l, net_key(&who[i])) + 1);
	return FRONT_WELCOME;
}

/* Everybody may open the socket of programs; nobody but root may take it from the others.  Under the
 * lock. */
static enum sess_why judge_user(struct front_limits *l, const struct conf *conf,
				const struct sockaddr_any *peer)
{
	uintptr_t mine = places(l, user_key(peer));
	if (peer->user.uid != 0 && mine >= MAX(all_places(l, conf) / USER_SHARE, (size_t)1))
		return SESS_WHY_RATE;
	set_places(l, user_key(peer), mine + 1);
	return FRONT_WELCOME;
}

enum sess_why front_limits_peer(struct front_limits *l, const struct conf *conf,
				enum sess_proto proto, const struct sockaddr_any *peer,
				bool *ret_limited)
{
	bool local = sock_is_local(peer);
	*ret_limited = local || !net_list_has(conf->trusted.nets, conf->trusted.n, peer);
	if (!*ret_limited)
		return FRONT_WELCOME;
	pthread_mutex_lock(&l->lock);
	enum sess_why why = local ? judge_user(l, conf, peer) : judge(l, conf, proto, peer);
	pthread_mutex_unlock(&l->lock);
	*ret_limited = why == FRONT_WELCOME;
	return why;
}

void front_limits_peer_gone(struct front_limits *l, const struct sockaddr_any *peer)
{
	const struct net who[] = { net_of_host(peer), net_of_site(peer) };
	pthread_mutex_lock(&l->lock);
	if (sock_is_local(peer))
		set_places(l, user_key(peer), places(l, user_key(peer)) - 1);
	for (size_t i = 0; i < ARRAY_LEN(who) && !sock_is_local(peer); i++)
		set_places(l, net_key(&who[i]), places(l, net_key(&who[i])) - 1);
	pthread_mutex_unlock(&l->lock);
}

/* ------------------------------------------------------------------ what is told of it */

static const char *why_text(enum sess_why why)
{
	static const char *const text[SESS_WHY_COUNT] = {
		[SESS_WHY_LOAD] = "load",	   [SESS_WHY_RATE] = "rate",
		[SESS_WHY_BANNED] = "banned",	   [SESS_WHY_EARLY] = "early talker",
		[SESS_WHY_PROXY] = "proxy header", [SESS_WHY_MEMORY] = "memory",
		[SESS_WHY_TIMEOUT] = "timeout",	   [SESS_WHY_ABUSE] = "errors",
	};
	return text[why] ? text[why] : "other";
}

/* One line in a minute for each host and reason: who is refused a thousand times a second must not
 * fill the disk with it. */
static bool worth_a_line(struct front_limits *l, const struct sockaddr_any *peer, enum sess_why why)
{
	struct {
		struct net net;
		uint8_t why;
	} key = { net_of_host(peer), (uint8_t)why };
	struct bucket_rate rate = { 1, MINUTE };
	pthread_mutex_lock(&l->lock);
	bool yes = bucket_take(l->buckets, span_of(&key, sizeof(key)), rate, clock_mono()) == 0;
	pthread_mutex_unlock(&l->lock);
	return yes;
}

void front_note_refusal(struct front *f, const char *proto, const struct sockaddr_any *peer,
			enum sess_why why)
{
	char ip[SOCK_TEXT];
	atomic_fetch_add_explicit(&f->refused[why], 1, memory_order_relaxed);
	if (!worth_a_line(&f->limits, peer, why))
		return;
	sock_ip_text(peer, ip);
	log_event(LOG_NOTICE, "front.refused", F_STR("proto", proto), F_STR("peer", ip),
		  F_STR("why", why_text(why)));
}
