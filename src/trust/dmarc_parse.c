/* DMARC records (RFC 9989 4.7, 4.8).  Pure. */
#include "trust/ascii.h"
#include "trust/dmarc.h"

const char *dmarc_policy_text(enum dmarc_policy p)
{
	static const char *const text[] = { "none", "quarantine", "reject" };

	return text[p];
}

static bool take_policy(span value, enum dmarc_policy *ret)
{
	for (int p = DMARC_NONE; p <= DMARC_REJECT; p++) {
		if (span_ieq_str(value, dmarc_policy_text((enum dmarc_policy)p))) {
			*ret = (enum dmarc_policy)p;
			return true;
		}
	}
	return false;
}

/* One letter of LETTERS, or what it was. */
static char take_letter(span value, const char *letters, char fallback)
{
	char c = value.n == 1 ? (char)(value.p[0] | 0x20) : 0;

	return c && strchr(letters, c) ? c : fallback;
}

struct policies {
	bool p, sp, np; /* a valid one was given */
	bool bad;	/* sp or np was given, and is none that is known */
};

static void take_tag(span name, span value, struct dmarc_record *r, struct policies *given)
{
	if (span_ieq_str(name, "p"))
		given->p = take_policy(value, &r->p);
	else if (span_ieq_str(name, "sp"))
		given->bad |= !(given->sp = take_policy(value, &r->sp));
	else if (span_ieq_str(name, "np"))
		given->bad |= !(given->np = take_policy(value, &r->np));
	else if (span_ieq_str(name, "psd"))
		r->psd = take_letter(value, "ynu", 'u');
	else if (span_ieq_str(name, "t"))
		r->testing = take_letter(value, "yn", 'n') == 'y';
	else if (span_ieq_str(name, "adkim"))
		r->strict_dkim = take_letter(value, "rs", 'r') == 's';
	else if (span_ieq_str(name, "aspf"))
		r->strict_spf = take_letter(value, "rs", 'r') == 's';
	else if (span_ieq_str(name, "rua"))
		r->rua = value;
	else if (span_ieq_str(name, "ruf"))
		r->ruf = value;
}

/* Is there a reporting address at all?  (Sending to it checks more.) */
static bool has_uri(span list)
{
	while (list.p) {
		span uri = span_trim(span_cut(&list, ','));
		size_t colon = span_find(uri, ':');
		if (colon != SPAN_NPOS && colon > 0 && colon + 1 < uri.n && ascii_alpha(uri.p[0]))
			return true;
	}
	return false;
}

int dmarc_parse(span text, struct dmarc_record *ret)
{
	struct dmarc_record r = { .psd = 'u' };
	struct policies given = { 0 };
	span version = span_cut(&text, ';'), name = span_cut(&version, '=');

	if (!span_eq_str(span_trim(name), "v") || !span_eq_str(span_trim(version), "DMARC1"))
		return ERR_SYNTAX;
	while (text.p) {
		span value = span_cut(&text, ';');
		name = span_cut(&value, '=');
		if (value.p)
			take_tag(span_trim(name), span_trim(value), &r, &given);
	}
	if (!given.p || given.bad) {
		/* RFC 9989 4.10.1: such an owner wants to watch, if there is a way to tell him. */
		r.void_policy = !has_uri(r.rua);
		r.p = r.sp = r.np = DMARC_NONE;
	} else {
		r.sp = given.sp ? r.sp : r.p;
		r.np = given.np ? r.np : r.sp;
	}
	*ret = r;
	return 0;
}
