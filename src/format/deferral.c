#include "format/deferral.h"

#include "base/buf.h"

const char deferral_match_help[] = "a match of any, greylist, mailbox_full, connect, dns, tls, a "
				   "reply code (421) or an enhanced one (4.7.1)";

/* A class holds where one of its status codes or one of its words is found. */
struct class
{
	const char *name;
	bool ours; /* only our own findings */
	const char *status[3], *words[5];
};
static const struct class classes[] = {
	{ "greylist", false, { NULL }, { "greylist", "graylist", "grey-list", "grey list" } },
	{ "mailbox_full",
	  false,
	  { "4.2.2", "5.2.2" },
	  { "mailbox full", "mailbox is full", "over quota", "overquota", "quota exceeded" } },
	{ "connect", true, { "4.4.1", "4.4.2" }, { NULL } },
	{ "dns", true, { "4.4.3", "4.4.4" }, { NULL } },
	{ "tls", true, { "4.7.5", "4.7.10" }, { NULL } },
};

static const struct class *class_find(span name)
{
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (span_eq_str(name, classes[i].name))
			return &classes[i];
	return NULL;
}

static bool digits(span s, size_t min, size_t max)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n >= min && s.n <= max;
}

static bool reply_code(span s)
{
	return digits(s, 3, 3) && (s.p[0] == '4' || s.p[0] == '5');
}

/* "4.7.1" or a beginning of one that ends with a whole number. */
static bool status_code(span s)
{
	span class = span_cut(&s, '.');
	if (!span_eq_str(class, "4") && !span_eq_str(class, "5"))
		return false;
	if (!s.p || !digits(span_cut(&s, '.'), 1, 3))
		return false;
	return !s.p || digits(s, 1, 3);
}

bool deferral_match_valid(span s)
{
	return span_eq_str(s, "any") || class_find(s) || reply_code(s) || status_code(s);
}

static bool from_peer(span reply)
{
	return reply_code(span_sub(reply, 0, 3)) && (reply.n == 3 || reply.p[3] == ' ');
}

static bool contains(span text, span word)
{
	for (size_t i = 0; i + word.n <= text.n; i++)
		if (span_ieq(span_sub(text, i, word.n), word))
			return true;
	return false;
}

static bool class_matches(const struct class *c, span reply, span status)
{
	if (c->ours && from_peer(reply))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(c->status) && c->status[i]; i++)
		if (span_eq_str(status, c->status[i]))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(c->words) && c->words[i]; i++)
		if (contains(reply, span_str(c->words[i])))
			return true;
	return false;
}

bool deferral_matches(span match, span reply, span status)
{
	const struct class *c = class_find(match);
	if (c)
		return class_matches(c, reply, status);
	if (reply_code(match))
		return from_peer(reply) && span_starts(reply, match);
	if (span_eq_str(match, "any"))
		return true;
	return span_starts(status, match) && (status.n == match.n || status.p[match.n] == '.');
}
