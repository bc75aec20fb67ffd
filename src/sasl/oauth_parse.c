#include "sasl/oauth_parse.h"

static bool token_ok(span s)
{
	size_t end = s.n;

	while (end && s.p[end - 1] == '=')
		end--;
	for (size_t i = 0; i < end; i++) {
		char c = s.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' ||
			  c == '+' || c == '/';

		if (!ok)
			return false;
	}
	return end > 0;
}

/* "Bearer TOKEN" */
static bool bearer(span value, span *ret)
{
	span word = span_cut(&value, ' ');

	value = span_trim(value);
	if (!span_ieq_str(word, "Bearer") || !token_ok(value))
		return false;
	*ret = value;
	return true;
}

/* Letters, "=", and a value of what RFC 7628 allows: %x20-7E, tabs and line ends. */
static bool pair(span in, span *ret_key, span *ret_value)
{
	span value = in, key = span_cut(&value, '=');

	if (!key.n || !value.p)
		return false;
	for (size_t i = 0; i < key.n; i++)
		if ((key.p[i] | 0x20) < 'a' || (key.p[i] | 0x20) > 'z')
			return false;
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];

		if (c == 0x7f || (c < ' ' && c != '\t' && c != '\r' && c != '\n'))
			return false;
	}
	*ret_key = key;
	*ret_value = value;
	return true;
}

/* The pairs, each with its ^A behind it, and a last ^A. */
static bool pairs(span rest, struct oauth_message *m)
{
	while (rest.n && rest.p[0] != '\x01') {
		span key, value, one = span_cut(&rest, '\x01');

		if (!rest.p || !pair(one, &key, &value))
			return false;
		if (span_eq_str(key, "auth")) {
			if (m->token.n || !bearer(value, &m->token))
				return false;
		} else if (span_eq_str(key, "user")) {
			if (m->user.n)
				return false;
			m->user = value;
		}
	}
	return rest.n == 1 && m->token.n;
}

/* Empty, or "a=" and a name; control characters are in nobody's. */
static bool authzid_ok(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return false;
	return !s.n || span_starts(s, SPAN("a="));
}

bool oauthbearer_parse(span in, struct oauth_message *ret)
{
	struct oauth_message m = { 0 };
	span rest = in, flag = span_cut(&rest, ','), authzid;

	/* Nothing binds the token to the channel, so "p=" cannot be. */
	if (!rest.p || !(span_eq_str(flag, "n") || span_eq_str(flag, "y")))
		return false;
	authzid = span_cut(&rest, ',');
	if (!rest.n || rest.p[0] != '\x01')
		return false;
	if (!authzid_ok(authzid))
		return false;
	rest = span_from(rest, 1);
	if (!pairs(rest, &m))
		return false;
	m.user = span_from(authzid, 2);
	*ret = m;
	return true;
}

bool xoauth2_parse(span in, struct oauth_message *ret)
{
	struct oauth_message m = { 0 };

	if (!pairs(in, &m) || !m.user.n)
		return false;
	*ret = m;
	return true;
}
