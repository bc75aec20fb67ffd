/* Connection limits.  The lock is held for one look-up at accept and one at close. */
#include <sys/resource.h>

#include "role/front_int.h"

/* Descriptors that are no connections: loops, channels, listeners. */
#define OTHER_FDS 300

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
	*l = (struct front_limits){ .by_ip = map_new(), .room = room_of_process() };
	pthread_mutex_init(&l->lock, NULL);
}

void front_limits_done(struct front_limits *l)
{
	map_free(l->by_ip);
	pthread_mutex_destroy(&l->lock);
}

/* One IPv6 customer has a /64 at least. */
static span key_of(const struct sockaddr_any *a)
{
	if (a->sa.sa_family == AF_INET)
		return span_of(&a->in.sin_addr, 4);
	return span_of(&a->in6.sin6_addr, 8);
}

bool front_limits_enter(struct front_limits *l, const struct conf *conf,
			const struct sockaddr_any *peer)
{
	span key = key_of(peer);
	pthread_mutex_lock(&l->lock);
	uintptr_t n = (uintptr_t)map_get(l->by_ip, key);
	bool ok = l->total < MIN((size_t)conf->max_connections, l->room) && n < conf->max_per_ip;
	if (ok) {
		l->total++;
		map_put(l->by_ip, key, (void *)(n + 1));
	}
	pthread_mutex_unlock(&l->lock);
	return ok;
}

void front_limits_leave(struct front_limits *l, const struct sockaddr_any *peer)
{
	span key = key_of(peer);
	pthread_mutex_lock(&l->lock);
	uintptr_t n = (uintptr_t)map_get(l->by_ip, key);
	if (n > 1)
		map_put(l->by_ip, key, (void *)(n - 1));
	else
		map_del(l->by_ip, key);
	l->total--;
	pthread_mutex_unlock(&l->lock);
}
