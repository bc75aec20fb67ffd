/* SPF's grammar (RFC 7208 12).  One bad term spoils the record, so all is checked before any is
 * used. */
#include "trust/spf_parse.h"

#include <arpa/inet.h>

#include "trust/ascii.h"

#define RECORD_TERMS_MAX 4096

static const struct {
	const char *name;
	enum spf_kind kind;
	bool wants_domain; /* else it is optional, or not allowed at all */
	bool takes_domain;
	bool takes_cidr;
} mechanisms[] = {
	{ "all", SPF_ALL, false, false, false }, { "include", SPF_INCLUDE, true, true, false },
	{ "a", SPF_A, false, true, true },	 { "mx", SPF_MX, false, true, true },
	{ "ptr", SPF_PTR, false, true, false },	 { "exists", SPF_EXISTS, true, true, false },
};

bool spf_is_record(span text)
{
	return span_istarts(text, SPAN("v=spf1")) && (text.n == 6 || text.p[6] == ' ');
}

/* ------------------------------------------------------------------ domain-spec */

/* toplabel = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum ) */
static bool is_toplabel(span s)
{
	bool letter = false;

	if (!s.n || s.p[0] == '-' || s.p[s.n - 1] == '-')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (!ascii_alpha(s.p[i]) && !ascii_digit(s.p[i]) && s.p[i] != '-')
			return false;
		letter = letter || !ascii_digit(s.p[i]);
	}
	return letter;
}

/* A macro-string that ends with a macro or a dot and a toplabel. */
static bool is_domain_spec(span s)
{
	if (!s.n || !spf_macros_valid(s, false))
		return false;
	if (s.p[s.n - 1] == '}') {
		/* A valid string cannot hold a "}" of a macro without its "%{" before it; a literal
		 * one would have none behind the last "%{". */
		size_t open = span_rfind(s, '{');
		if (open != SPAN_NPOS && open > 0 && s.p[open - 1] == '%' &&
		    span_find(span_sub(s, open, s.n - 1 - open), '}') == SPAN_NPOS)
			return true;
	}
	s = name_undot(s);
	size_t dot = span_rfind(s, '.');
	return dot != SPAN_NPOS && is_toplabel(span_from(s, dot + 1));
}

/* ------------------------------------------------------------------ mechanisms */

/* Cuts "/N" off the end of *S; MAX as a sign that there was none.  N without leading zeros. */
static int cut_cidr(span *s, unsigned max, unsigned *ret)
{
	size_t slash = span_rfind(*s, '/');
	span digits;
	uint64_t v;

	*ret = max;
	if (slash == SPAN_NPOS)
		return 0;
	digits = span_from(*s, slash + 1);
	for (size_t i = 0; i < digits.n; i++) {
		if (!ascii_digit(digits.p[i]))
			return 0; /* the slash is part of something else */
	}
	if (!span_u64(digits, max, &v) || (digits.n > 1 && digits.p[0] == '0'))
		return ERR_SYNTAX;
	*ret = (unsigned)v;
	s->n = slash;
	return 1;
}

/* [ "/" ip4-cidr ] [ "//" ip6-cidr ] at the end of *S. */
static int cut_dual_cidr(span *s, struct spf_term *t)
{
	span rest = *s;
	int e = cut_cidr(&rest, 128, &t->cidr6);

	if (e > 0 && rest.n && rest.p[rest.n - 1] == '/') {
		rest.n--;
		*s = rest;
	} else {
		t->cidr6 = 128;
	}
	if (e < 0)
		return e;
	return cut_cidr(s, 32, &t->cidr4) < 0 ? ERR_SYNTAX : 0;
}

static int parse_ip(span arg, struct spf_term *t)
{
	char text[INET6_ADDRSTRLEN];
	span rest = arg;
	int e;

	t->cidr4 = 32;
	t->cidr6 = 128;
	e = t->kind == SPF_IP4 ? cut_cidr(&rest, 32, &t->cidr4) : cut_cidr(&rest, 128, &t->cidr6);
	if (e < 0 || rest.n >= sizeof(text) || memchr(rest.p, 0, rest.n))
		return ERR_SYNTAX;
	memcpy(text, rest.p, rest.n);
	text[rest.n] = 0;
	e = inet_pton(t->kind == SPF_IP4 ? AF_INET : AF_INET6, text, t->network);
	return e == 1 ? 0 : ERR_SYNTAX;
}

/* ARG is what follows the name: empty, ":..." or "/...". */
static int parse_mechanism(size_t row, span arg, struct spf_term *t)
{
	t->cidr4 = 32;
	t->cidr6 = 128;
	if (mechanisms[row].takes_cidr && cut_dual_cidr(&arg, t) < 0)
		return ERR_SYNTAX;
	if (!arg.n)
		return mechanisms[row].wants_domain ? ERR_SYNTAX : 0;
	if (arg.p[0] != ':' || !mechanisms[row].takes_domain)
		return ERR_SYNTAX;
	t->domain = span_from(arg, 1);
	return is_domain_spec(t->domain) ? 0 : ERR_SYNTAX;
}

static void take_qualifier(span *s, enum trust_result *ret)
{
	static const char signs[] = "+-~?";
	static const enum trust_result results[] = { TRUST_PASS, TRUST_FAIL, TRUST_SOFTFAIL,
						     TRUST_NEUTRAL };
	const char *at = s->n ? memchr(signs, s->p[0], 4) : NULL;

	*ret = at ? results[at - signs] : TRUST_PASS;
	if (at)
		*s = span_from(*s, 1);
}

static int take_mechanism(span text, struct spf_term *t)
{
	span s = text;
	size_t end = 0;

	*t = (struct spf_term){ .text = text };
	take_qualifier(&s, &t->qualifier);
	while (end < s.n && s.p[end] != ':' && s.p[end] != '/')
		end++;
	span name = span_sub(s, 0, end), arg = span_from(s, end);
	if (span_ieq_str(name, "ip4") || span_ieq_str(name, "ip6")) {
		t->kind = s.p[2] == '4' ? SPF_IP4 : SPF_IP6;
		return arg.n && arg.p[0] == ':' ? parse_ip(span_from(arg, 1), t) : ERR_SYNTAX;
	}
	for (size_t row = 0; row < ARRAY_LEN(mechanisms); row++) {
		if (span_ieq_str(name, mechanisms[row].name)) {
			t->kind = mechanisms[row].kind;
			return parse_mechanism(row, arg, t);
		}
	}
	return ERR_SYNTAX;
}

/* ------------------------------------------------------------------ modifiers */

/* name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ) before an "="; the length, or 0. */
static size_t modifier_name(span s)
{
	size_t i = 0;

	if (!s.n || !ascii_alpha(s.p[0]))
		return 0;
	while (i < s.n && (ascii_alpha(s.p[i]) || ascii_digit(s.p[i]) || memchr("-_.", s.p[i], 3)))
		i++;
	return i < s.n && s.p[i] == '=' ? i : 0;
}

static int take_modifier(span s, size_t name_n, struct spf_record *r)
{
	span name = span_sub(s, 0, name_n), value = span_from(s, name_n + 1), *to = NULL;

	if (span_ieq_str(name, "redirect"))
		to = &r->redirect;
	else if (span_ieq_str(name, "exp"))
		to = &r->exp;
	if (!to)
		return spf_macros_valid(value, false) ? 0 : ERR_SYNTAX;
	if (to->p || !is_domain_spec(value))
		return ERR_SYNTAX;
	*to = value;
	return 0;
}

int spf_parse(span text, struct arena *mem, struct spf_record *ret, span *ret_at)
{
	struct spf_record r = { 0 };
	span rest = span_from(text, 6);
	size_t words = 1;

	for (size_t i = 0; i < rest.n; i++)
		words += rest.p[i] == ' ';
	if (words > RECORD_TERMS_MAX)
		return ERR_SYNTAX;
	r.term = arena_array(mem, struct spf_term, words);
	while (rest.p) {
		span word = span_cut(&rest, ' ');
		size_t name = modifier_name(word);

		if (!word.n)
			continue;
		if ((name ? take_modifier(word, name, &r) : take_mechanism(word, &r.term[r.n++])) <
		    0) {
			*ret_at = word;
			return ERR_SYNTAX;
		}
	}
	*ret = r;
	return 0;
}
