#include "sasl/scram_parse.h"

/* "X=value" at the start of *REST up to the next comma; false if it is not there. */
static bool attribute(span *rest, char letter, span *ret)
{
	span word = span_cut(rest, ',');

	if (word.n < 2 || word.p[0] != letter || word.p[1] != '=')
		return false;
	*ret = span_from(word, 2);
	return true;
}

/* %x21-2B / %x2D-7E: printable, and no comma. */
static bool nonce_ok(span s)
{
	if (!s.n || s.n > SCRAM_NONCE_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ',')
			return false;
	return true;
}

bool scram_first_parse(span in, struct scram_first *ret)
{
	struct scram_first f = { 0 };
	span rest = in, flag, authzid;

	if (!in.n || memchr(in.p, '\0', in.n))
		return false;
	flag = span_cut(&rest, ',');
	if (!flag.n || !rest.p)
		return false;
	f.flag = flag.p[0];
	if (f.flag == 'p') {
		if (flag.n < 3 || flag.p[1] != '=')
			return false;
		f.binding = span_from(flag, 2);
	} else if (flag.n != 1 || (f.flag != 'n' && f.flag != 'y')) {
		return false;
	}
	authzid = span_cut(&rest, ',');
	if (!rest.p)
		return false;
	if (authzid.n && !attribute(&authzid, 'a', &f.authzid))
		return false;
	f.bare = rest;
	f.gs2 = span_sub(in, 0, in.n - rest.n);
	/* "m=" would stand first: a mandatory extension, and we know none. */
	if (!attribute(&rest, 'n', &f.name) || !f.name.n || !rest.p ||
	    !attribute(&rest, 'r', &f.nonce) || !nonce_ok(f.nonce))
		return false;
	*ret = f;
	return true;
}

bool scram_name_decode(struct buf *b, span name)
{
	for (size_t i = 0; i < name.n; i++) {
		if (name.p[i] != '=') {
			buf_put_char(b, name.p[i]);
			continue;
		}
		span code = span_sub(name, i + 1, 2);
		if (!span_eq_str(code, "2C") && !span_eq_str(code, "3D"))
			return false;
		buf_put_char(b, code.p[0] == '2' ? ',' : '=');
		i += 2;
	}
	return !b->failed;
}

bool scram_final_parse(span in, struct scram_final *ret)
{
	struct scram_final f = { 0 };
	span rest = in;
	size_t comma = span_rfind(in, ',');

	if (comma == SPAN_NPOS || memchr(in.p, '\0', in.n))
		return false;
	/* The proof stands last, behind any extensions. */
	span proof = span_from(in, comma + 1);
	f.without_proof = span_sub(in, 0, comma);
	if (!attribute(&proof, 'p', &f.proof) || !attribute(&rest, 'c', &f.binding) || !rest.p ||
	    !attribute(&rest, 'r', &f.nonce) || !f.nonce.n)
		return false;
	*ret = f;
	return true;
}
