/* Bans: in guard.db, in memory, and at the fronts. */
#include "guard/guard_int.h"

#include <stdlib.h>

#include "base/log.h"

size_t guard_max_bans = 20000;

static const char *const proto_names[SESS_PROTO_COUNT] = {
	[SESS_PROTO_SMTP] = "smtp",
	[SESS_PROTO_SUBMISSION] = "submission",
	[SESS_PROTO_IMAP] = "imap",
	[SESS_PROTO_POP3] = "pop3",
	[SESS_PROTO_LMTP] = "lmtp",
};

static const struct db_migration steps[] = {
	{ .version = 1,
	  .oldest_writer = 1,
	  .sql = "CREATE TABLE ban(net TEXT NOT NULL, protocol TEXT NOT NULL, since INTEGER NOT "
		 "NULL, until INTEGER NOT NULL, by_hand INTEGER NOT NULL, reason TEXT NOT NULL,"
		 " PRIMARY KEY(net, protocol)) WITHOUT ROWID;" },
};
static const struct db_schema schema = { .name = "guard",
					 .steps = steps,
					 .n_steps = ARRAY_LEN(steps) };

const char *guard_proto_name(enum sess_proto p)
{
	return p < SESS_PROTO_COUNT ? proto_names[p] : NULL;
}

enum sess_proto guard_proto_find(span name)
{
	int p = 0;
	while (p < SESS_PROTO_COUNT && !(proto_names[p] && span_eq_str(name, proto_names[p])))
		p++;
	return (enum sess_proto)p;
}

/* ------------------------------------------------------------------ memory; under the lock */

static void ban_done(struct ban *b)
{
	free(b->reason);
	*b = (struct ban){ 0 };
}

static void forget(struct guard *g, struct banned *x)
{
	net_map_del(g->bans, &x->net);
	TAILQ_REMOVE(&g->by_age, x, by_age);
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		ban_done(&x->ban[i]);
	free(x);
}

static struct banned *find_or_make(struct guard *g, const struct net *net)
{
	struct banned *x = net_map_get(g->bans, net);
	if (x) {
		TAILQ_REMOVE(&g->by_age, x, by_age);
	} else {
		x = xcalloc(1, sizeof(*x));
		x->net = *net;
		net_map_put(g->bans, net, x);
	}
	TAILQ_INSERT_TAIL(&g->by_age, x, by_age);
	return x;
}

static void put(struct banned *x, enum sess_proto p, const struct ban *b, span reason)
{
	ban_done(&x->ban[p]);
	x->ban[p] = *b;
	x->ban[p].reason = span_dup(reason);
}

static bool any_left(const struct banned *x, usec now)
{
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		if (x->ban[i].until > now)
			return true;
	return false;
}

static bool any_by_hand(const struct banned *x)
{
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		if (x->ban[i].until && x->ban[i].by_hand)
			return true;
	return false;
}

static struct sess_ban to_tell(const struct banned *x, usec now)
{
	struct sess_ban told = { .net = x->net };
	for (size_t i = 0; i < SESS_PROTO_COUNT; i++)
		told.left[i] = x->ban[i].until == INT64_MAX ? SESS_BAN_FOREVER
			       : x->ban[i].until > now	    ? (uint64_t)(x->ban[i].until - now)
							    : 0;
	return told;
}

bool guard_is_banned(struct guard *g, enum sess_proto proto, const struct sockaddr_any *peer)
{
	usec now = clock_wall();
	int bits = 128;
	bool banned = false;
	const struct banned *x;
	pthread_mutex_lock(&g->lock);
	while (!banned && (x = net_map_match(g->bans, peer, &bits)))
		banned = x->ban[proto].until > now;
	pthread_mutex_unlock(&g->lock);
	return banned;
}

/* ------------------------------------------------------------------ disk */

/* What one change does to the table: first nothing holds for NET and PROTOS, then B. */
struct change {
	const struct net *net, *evicted; /* EVICTED loses all */
	unsigned protos;
	const struct ban *ban; /* NULL: they are lifted */
	span reason;
};

static int write_change(struct db_tx *tx, void *arg)
{
	const struct change *c = arg;
	char net[NET_TEXT];
	int r = 0;
	if (c->evicted) {
		net_text(c->evicted, net);
		r = db_run(tx, "DELETE FROM ban WHERE net = ?", "z", net);
	}
	net_text(c->net, net);
	for (int p = 0; p < SESS_PROTO_COUNT && r == 0; p++) {
		if (!(c->protos & 1u << p) || !proto_names[p])
			continue;
		if (c->ban)
			r = db_run(tx, "INSERT OR REPLACE INTO ban VALUES(?, ?, ?, ?, ?, ?)",
				   "zziiis", net, proto_names[p], (int64_t)c->ban->since,
				   (int64_t)c->ban->until, (int64_t)c->ban->by_hand, c->reason);
		else
			r = db_run(tx, "DELETE FROM ban WHERE net = ? AND protocol = ?", "zz", net,
				   proto_names[p]);
	}
	return r;
}

static int write_expired(struct db_tx *tx, void *arg)
{
	return db_run(tx, "DELETE FROM ban WHERE until <= ?", "i", *(const int64_t *)arg);
}

static int load_rows(struct guard *g, struct db_tx *tx)
{
	struct db_stmt *s = db_sql(
		tx, "SELECT net, protocol, since, until, by_hand, reason FROM ban ORDER BY since");
	int r;
	while ((r = db_step(s)) > 0) {
		enum sess_proto p = guard_proto_find(db_col_span(s, 1));
		struct ban b = { .since = db_col_i64(s, 2),
				 .until = db_col_i64(s, 3),
				 .by_hand = db_col_i64(s, 4) };
		struct net net;
		/* A protocol that this release does not know is left to the one that does. */
		if (p == SESS_PROTO_COUNT || net_parse(db_col_span(s, 0), &net) < 0)
			continue;
		put(find_or_make(g, &net), p, &b, db_col_span(s, 5));
	}
	return r;
}

int guard_bans_open(struct guard *g, const char *path, struct err_info *info)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	g->bans = net_map_new();
	TAILQ_INIT(&g->by_age);
	int r = db_open(path, &schema, DB_CREATE, &g->db, info);
	if (r < 0)
		return r;
	r = db_read_begin(g->db, &tx);
	if (r == 0)
		r = load_rows(g, tx);
	return r < 0 ? err_set(info, r, "%s: the bans cannot be read: %s", path, err_text(r)) : 0;
}

void guard_bans_close(struct guard *g)
{
	while (!TAILQ_EMPTY(&g->by_age))
		forget(g, TAILQ_FIRST(&g->by_age));
	net_map_free(g->bans);
	db_close(g->db);
}

/* ------------------------------------------------------------------ changes; CHANGE is held */

/* G5.  The network that must make room for NET, which may be nobody; ERR_FULL. */
static int make_room(struct guard *g, const struct net *net, struct net *ret, bool *ret_evicts)
{
	struct banned *x;
	*ret_evicts = false;
	if (net_map_get(g->bans, net) || net_map_count(g->bans) < guard_max_bans)
		return 0;
	TAILQ_FOREACH(x, &g->by_age, by_age)
	if (!any_by_hand(x))
		break;
	if (!x)
		return ERR_FULL;
	*ret = x->net;
	*ret_evicts = true;
	return 0;
}

/* Memory follows; the fronts are told by the caller, who holds no lock then. */
static struct sess_ban apply(struct guard *g, const struct change *c)
{
	struct banned *x = c->evicted ? net_map_get(g->bans, c->evicted) : NULL;
	if (x)
		forget(g, x);
	x = find_or_make(g, c->net);
	for (int p = 0; p < SESS_PROTO_COUNT; p++) {
		if (c->protos & 1u << p && c->ban)
			put(x, (enum sess_proto)p, c->ban, c->reason);
		else if (c->protos & 1u << p)
			ban_done(&x->ban[p]);
	}
	usec now = clock_wall();
	struct sess_ban told = to_tell(x, now);
	if (!any_left(x, now))
		forget(g, x);
	return told;
}

/* Bans or lifts; BY_HAND means that the disk decides whether it was done. */
static int change(struct guard *g, struct change *c, bool by_hand)
{
	struct net evicted;
	bool evicts = false;
	pthread_mutex_lock(&g->change);
	pthread_mutex_lock(&g->lock);
	int r = c->ban ? make_room(g, c->net, &evicted, &evicts) : 0;
	pthread_mutex_unlock(&g->lock);
	c->evicted = evicts ? &evicted : NULL;
	if (r == 0)
		r = db_write(g->db, write_change, c);
	if (r == 0 || (!by_hand && r != ERR_FULL)) {
		struct sess_ban gone = { .net = evicted };
		pthread_mutex_lock(&g->lock);
		struct sess_ban told = apply(g, c);
		pthread_mutex_unlock(&g->lock);
		if (evicts)
			g->tell(g->arg, &gone);
		g->tell(g->arg, &told);
	}
	pthread_mutex_unlock(&g->change);
	return r;
}

void guard_ban_now(struct guard *g, const struct net *net, enum sess_proto proto, usec d,
		   const char *reason)
{
	usec now = clock_wall();
	struct ban b = { .since = now, .until = now + d };
	struct change c = {
		.net = net, .protos = 1u << proto, .ban = &b, .reason = span_str(reason)
	};
	char text[NET_TEXT];
	int r = change(g, &c, false);
	net_text(net, text);
	log_event(LOG_NOTICE, "guard.banned", F_STR("net", text),
		  F_STR("proto", proto_names[proto]), F_U64("seconds", (uint64_t)(d / USEC_SEC)),
		  F_STR("why", reason), F_STR("kept", r < 0 ? err_text(r) : "yes"));
}

int guard_ban_add(struct guard *g, const struct guard_ban *b, struct err_info *info)
{
	struct ban ban = { .since = b->since,
			   .until = b->until ? b->until : INT64_MAX,
			   .by_hand = true };
	struct change c = { .net = &b->net, .protos = b->protos, .ban = &ban, .reason = b->reason };
	int r = change(g, &c, true);
	if (r == ERR_FULL)
		return err_set(info, r, "there is no room for another ban (%zu by hand at most)",
			       guard_max_bans);
	return r < 0 ? err_set(info, r, "the ban cannot be written: %s", err_text(r)) : 0;
}

int guard_ban_remove(struct guard *g, const struct net *net, unsigned protos)
{
	struct change c = { .net = net, .protos = protos };
	usec now = clock_wall();
	bool there = false;
	pthread_mutex_lock(&g->lock);
	const struct banned *x = net_map_get(g->bans, net);
	for (int p = 0; x && p < SESS_PROTO_COUNT; p++)
		there |= protos & 1u << p && x->ban[p].until > now;
	pthread_mutex_unlock(&g->lock);
	return there ? change(g, &c, true) : ERR_NOENT;
}

void guard_maintain(struct guard *g)
{
	int64_t now = clock_wall();
	struct banned *x, *next;
	bool any = false;
	pthread_mutex_lock(&g->change);
	pthread_mutex_lock(&g->lock);
	for (x = TAILQ_FIRST(&g->by_age); x; x = next) {
		next = TAILQ_NEXT(x, by_age);
		if (any_left(x, now))
			continue;
		struct sess_ban gone = { .net = x->net };
		g->tell(g->arg, &gone);
		forget(g, x);
		any = true;
	}
	pthread_mutex_unlock(&g->lock);
	int r = any ? db_write(g->db, write_expired, &now) : 0;
	if (r < 0) /* they are over all the same; the next time removes the rows */
		log_event(LOG_WARNING, "guard.expired_kept", F_ERR(r));
	pthread_mutex_unlock(&g->change);
}

/* ------------------------------------------------------------------ reads */

static bool same_ban(const struct guard_ban *a, const struct ban *b)
{
	return a->since == b->since && a->until == (b->until == INT64_MAX ? 0 : b->until) &&
	       a->by_hand == b->by_hand && span_eq_str(a->reason, b->reason);
}

/* The bans of X after those in LIST; returns how many there are then. */
static size_t collect(const struct banned *x, usec now, struct arena *mem, struct guard_ban *list,
		      size_t n)
{
	size_t first = n;
	for (int p = 0; p < SESS_PROTO_COUNT; p++) {
		const struct ban *b = &x->ban[p];
		size_t i = first;
		if (b->until <= now)
			continue;
		while (i < n && !same_ban(&list[i], b))
			i++;
		if (i == n)
			list[n++] = (struct guard_ban){
				.net = x->net,
				.since = b->since,
				.until = b->until == INT64_MAX ? 0 : b->until,
				.by_hand = b->by_hand,
				.reason = arena_span(mem, span_str(b->reason))
			};
		list[i].protos |= 1u << p;
	}
	return n;
}

void guard_bans(struct guard *g, struct arena *mem, struct guard_ban **ret, size_t *ret_n)
{
	const struct banned *x;
	size_t n = 0;
	pthread_mutex_lock(&g->lock);
	struct guard_ban *list = arena_array(mem, struct guard_ban,
					     net_map_count(g->bans) * SESS_PROTO_COUNT + 1);
	TAILQ_FOREACH(x, &g->by_age, by_age)
	n = collect(x, clock_wall(), mem, list, n);
	pthread_mutex_unlock(&g->lock);
	*ret = list;
	*ret_n = n;
}

void guard_tell_all(struct guard *g, guard_tell_fn *tell, void *arg)
{
	const struct banned *x;
	pthread_mutex_lock(&g->lock);
	TAILQ_FOREACH(x, &g->by_age, by_age)
	{
		struct sess_ban told = to_tell(x, clock_wall());
		tell(arg, &told);
	}
	pthread_mutex_unlock(&g->lock);
}
