#include "imap/set.h"

#include <stdlib.h>

static bool one(struct imap_lex *l, uint32_t *ret)
{
	if (imap_lex_char(l, '*')) {
		*ret = 0;
		return true;
	}
	return imap_lex_number(l, ret) && (*ret > 0 || imap_lex_fail(l, "Message number 0"));
}

/* How many ranges the set that starts here can have: its commas, bounded by the line. */
static size_t count_ranges(const struct imap_lex *l)
{
	size_t n = 1;
	for (size_t i = l->at; i < l->s.n && strchr("0123456789*:,", l->s.p[i]) && l->s.p[i]; i++)
		n += l->s.p[i] == ',';
	return n;
}

bool imap_set_lex(struct imap_lex *l, struct imap_set *ret)
{
	struct imap_set s = { .r = arena_array(l->mem, struct imap_range, count_ranges(l)) };
	do {
		struct imap_range r;
		if (!one(l, &r.lo))
			return imap_lex_fail(l, "Expected a sequence set");
		r.hi = r.lo;
		if (imap_lex_char(l, ':') && !one(l, &r.hi))
			return false;
		s.r[s.n++] = r;
	} while (imap_lex_char(l, ','));
	*ret = s;
	return true;
}

static int by_lo(const void *a, const void *b)
{
	const struct imap_range *x = a, *y = b;
	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

struct imap_set imap_set_resolve(const struct imap_set *s, uint32_t largest, struct arena *mem)
{
	struct imap_set out = { .r = arena_array(mem, struct imap_range, s->n) };
	for (size_t i = 0; i < s->n; i++) {
		uint32_t a = s->r[i].lo ? s->r[i].lo : largest;
		uint32_t b = s->r[i].hi ? s->r[i].hi : largest;
		out.r[i] = (struct imap_range){ MIN(a, b), MAX(a, b) };
	}
	qsort(out.r, s->n, sizeof(out.r[0]), by_lo);
	for (size_t i = 0; i < s->n; i++) {
		struct imap_range *last = out.n ? &out.r[out.n - 1] : NULL;
		if (last && (out.r[i].lo <= last->hi || out.r[i].lo - 1 == last->hi))
			last->hi = MAX(last->hi, out.r[i].hi);
		else
			out.r[out.n++] = out.r[i];
	}
	return out;
}

bool imap_set_has(const struct imap_set *s, uint32_t v)
{
	size_t lo = 0, hi = s->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (s->r[mid].hi < v)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < s->n && s->r[lo].lo <= v;
}

int imap_set_check(const struct imap_set *s, uint32_t largest)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->r[i].lo && s->r[i].hi && MAX(s->r[i].lo, s->r[i].hi) > largest)
			return ERR_INVAL;
	return 0;
}

void imap_set_put(struct buf *b, const uint32_t *v, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t j = i + 1;
		while (j < n && v[j] == v[j - 1] + 1)
			j++;
		if (i)
			buf_put_char(b, ',');
		buf_put_u64(b, v[i]);
		if (j - i > 1) {
			buf_put_char(b, ':');
			buf_put_u64(b, v[j - 1]);
		}
		i = j;
	}
}
