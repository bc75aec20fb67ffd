/* Who wants to be told of commits.  LOOK runs under the table's mutex: it only posts, and so
 * store_watch_del, which takes the mutex, leaves no call under way. */
#include <stdlib.h>

#include "store/store_int.h"

struct watch_table {
	pthread_mutex_t mu;
	struct map *by_account; /* account id -> first struct store_watch */
};

struct store_watch {
	struct watch_table *t;
	char account[ACCOUNT_ID_LEN];
	int64_t mailbox;
	store_look_fn *look;
	void *arg;
	struct store_watch *next;
};

struct watch_table *watch_table_new(void)
{
	struct watch_table *t = xcalloc(1, sizeof(*t));
	pthread_mutex_init(&t->mu, NULL);
	t->by_account = map_new();
	return t;
}

void watch_table_free(struct watch_table *t)
{
	if (!t)
		return;
	map_free(t->by_account);
	pthread_mutex_destroy(&t->mu);
	free(t);
}

static span watch_key(const struct store_watch *w)
{
	return span_of(w->account, sizeof(w->account));
}

struct store_watch *store_watch_add(struct store *s, span account_id, int64_t mailbox,
				    store_look_fn *look, void *arg)
{
	struct store_watch *w = xcalloc(1, sizeof(*w));
	*w = (struct store_watch){ .t = s->watches, .mailbox = mailbox, .look = look, .arg = arg };
	memcpy(w->account, account_id.p, MIN(account_id.n, sizeof(w->account)));
	pthread_mutex_lock(&w->t->mu);
	w->next = map_get(w->t->by_account, watch_key(w));
	map_put(w->t->by_account, watch_key(w), w);
	pthread_mutex_unlock(&w->t->mu);
	return w;
}

void store_watch_del(struct store_watch *w)
{
	if (!w)
		return;
	struct watch_table *t = w->t;
	pthread_mutex_lock(&t->mu);
	struct store_watch *first = map_get(t->by_account, watch_key(w)), **p = &first;
	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (first)
		map_put(t->by_account, watch_key(w), first);
	else
		map_del(t->by_account, watch_key(w));
	pthread_mutex_unlock(&t->mu);
	free(w);
}

void watch_notify(struct account *a, int64_t mailbox)
{
	struct watch_table *t = a->s->watches;
	pthread_mutex_lock(&t->mu);
	struct store_watch *w = map_get(t->by_account, span_of(a->id, ACCOUNT_ID_LEN));
	for (; w; w = w->next)
		if (w->mailbox == 0 || w->mailbox == mailbox)
			w->look(w->arg, mailbox);
	pthread_mutex_unlock(&t->mu);
}
