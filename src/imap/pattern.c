#include "imap/pattern.h"

/* The set of pattern positions that can be reached after each byte of the name: one bit each.  No
 * backtracking, so that "*%*%*%" costs what its length says. */
enum { WORDS = (IMAP_MAX_PATTERN + 1 + 63) / 64 };
struct states {
	uint64_t w[WORDS];
};

static bool has(const struct states *s, size_t i)
{
	return s->w[i / 64] >> (i % 64) & 1;
}

static void put(struct states *s, size_t i)
{
	s->w[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool wild(char c)
{
	return c == '*' || c == '%';
}

/* Wildcards may match nothing: what lies behind them is reached too. */
static void close_states(struct states *s, span pattern)
{
	for (size_t i = 0; i < pattern.n; i++)
		if (has(s, i) && wild(pattern.p[i]))
			put(s, i + 1);
}

static bool same(char a, char b, bool fold)
{
	if (fold && a >= 'a' && a <= 'z')
		a = (char)(a - 32);
	if (fold && b >= 'a' && b <= 'z')
		b = (char)(b - 32);
	return a == b;
}

bool imap_pattern_match(span pattern, span name, uint64_t *budget)
{
	uint64_t cost = (uint64_t)(pattern.n + 1) * (name.n + 1);
	if (pattern.n > IMAP_MAX_PATTERN || cost > *budget) {
		*budget = pattern.n > IMAP_MAX_PATTERN ? *budget : 0;
		return false;
	}
	*budget -= cost;
	bool inbox = span_istarts(name, SPAN("INBOX")) && (name.n == 5 || name.p[5] == '/');
	struct states now = { { 1 } };
	close_states(&now, pattern);
	for (size_t j = 0; j < name.n; j++) {
		struct states next = { { 0 } };
		for (size_t i = 0; i < pattern.n; i++) {
			if (!has(&now, i))
				continue;
			char p = pattern.p[i];
			if (p == '*' || (p == '%' && name.p[j] != '/'))
				put(&next, i);
			else if (!wild(p) && same(p, name.p[j], inbox && j < 5))
				put(&next, i + 1);
		}
		close_states(&next, pattern);
		now = next;
	}
	return has(&now, pattern.n);
}
