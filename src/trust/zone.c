/* Master files (RFC 1035 5.1). */
#include "trust/zone.h"

#include <stdlib.h>

#include "base/map.h"
#include "trust/ascii.h"

#define TOKENS_MAX  1024
#define RECORDS_MAX 4096 /* at one name */
#define ALIASES_MAX 8
#define DNS_SPF	    99

struct record {
	struct record *next; /* in file order */
	enum dns_type type;
	struct dns_record data;
};
struct node {
	struct record *first, **last;
	size_t n;
	enum dns_status fails;	  /* DNS_OK: does not */
	enum dns_type fails_only; /* 0: all types without records */
};
struct trust_zone {
	struct trust_lookup lookup;
	struct arena mem;
	struct map *names;     /* lower case, no final dot -> struct node */
	struct map *ancestors; /* names that exist only because something is below them */
	size_t n_records;
};

struct token {
	span s; /* unescaped */
	bool quoted;
};
struct reader {
	struct trust_zone *z;
	span text;
	size_t at;
	unsigned line;
	span origin, owner; /* the origin has no final dot; both may be empty */
	struct token *t;
	size_t n;
	bool starts_blank;
	struct err_info *info;
};

/* ------------------------------------------------------------------ names */

/* Relative to the origin if there is one and S has no final dot. */
static span full_name(struct reader *r, span s)
{
	struct arena *mem = &r->z->mem;

	if (span_eq_str(s, "@"))
		return r->origin;
	if (!r->origin.n || (s.n && s.p[s.n - 1] == '.'))
		return ascii_lower(name_undot(s), mem);
	s = span_str(arena_printf(mem, "%.*s.%.*s", SPAN_FMT(s), SPAN_FMT(r->origin)));
	return ascii_lower(s, mem);
}

static struct node *node_at(struct trust_zone *z, span name)
{
	struct node *node = map_get(z->names, name);

	if (node)
		return node;
	node = arena_new(&z->mem, struct node);
	node->last = &node->first;
	map_put(z->names, name, node);
	for (size_t dot; (dot = span_find(name, '.')) != SPAN_NPOS;) {
		name = span_from(name, dot + 1);
		if (map_put(z->ancestors, name, z))
			break; /* then all above are known too */
	}
	return node;
}

/* ------------------------------------------------------------------ reading */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* "\DDD" or "\X" at S[*I], which is the backslash. */
static bool unescape(span s, size_t *i, char *ret)
{
	if (*i + 1 >= s.n || s.p[*i + 1] == '\n')
		return false;
	char c = s.p[*i + 1];
	uint64_t v;

	if (c < '0' || c > '9') {
		*ret = c;
		*i += 2;
		return true;
	}
	if (*i + 3 >= s.n || !span_u64(span_sub(s, *i + 1, 3), 255, &v))
		return false;
	*ret = (char)v;
	*i += 4;
	return true;
}

static bool read_token(struct reader *r)
{
	span s = r->text;
	bool quoted = s.p[r->at] == '"';
	size_t i = r->at + quoted, n = 0, end = i;

	if (r->n == TOKENS_MAX)
		return false;
	while (end < s.n && s.p[end] != '\n')
		end++;
	char *to = arena_alloc(&r->z->mem, end - i + 1);
	for (; i < end; n++) {
		char c = s.p[i];
		if (quoted ? c == '"' : is_space(c) || c == ';' || c == '(' || c == ')' || c == '"')
			break;
		if (c != '\\') {
			to[n] = c;
			i++;
		} else if (!unescape(s, &i, &to[n])) {
			return false;
		}
	}
	if (quoted && (i >= end || s.p[i++] != '"'))
		return false;
	r->t[r->n++] = (struct token){ .s = span_of(to, n), .quoted = quoted };
	r->at = i;
	return true;
}

static int fault(struct reader *r, const char *what)
{
	return err_set(r->info, ERR_SYNTAX, "zone file, line %u: %s", r->line, what);
}

/* The comment's words decide; it may also be prose. */
static void read_comment(struct reader *r, span comment)
{
	span rest = span_trim(comment), words[4];
	size_t n = 0;

	while (rest.n && n < ARRAY_LEN(words)) {
		words[n] = span_cut(&rest, ' ');
		rest = span_trim(rest);
		n += words[n].n > 0;
	}
	if (n < 2 || n > 3)
		return;
	bool timeout = span_eq_str(words[0], "TIMEOUT");
	if (!timeout && !span_eq_str(words[0], "SERVFAIL"))
		return;
	static const struct {
		const char *name;
		enum dns_type type;
	} types[] = { { "A", DNS_A },	  { "AAAA", DNS_AAAA }, { "MX", DNS_MX },
		      { "TXT", DNS_TXT }, { "PTR", DNS_PTR },	{ "CNAME", DNS_CNAME },
		      { "SPF", DNS_SPF } };
	enum dns_type only = 0;
	for (size_t i = 0; n == 3 && i < ARRAY_LEN(types); i++) {
		if (span_ieq_str(words[2], types[i].name))
			only = types[i].type;
	}
	if (n == 3 && !only)
		return;
	struct node *node = node_at(r->z, full_name(r, words[1]));
	node->fails = timeout ? DNS_TIMEOUT : DNS_SERVFAIL;
	node->fails_only = only;
}

/* Reads the tokens of one entry, which parentheses may spread over lines. */
static int read_entry(struct reader *r)
{
	unsigned depth = 0;

	r->n = 0;
	r->starts_blank = is_space(r->text.p[r->at]);
	r->line++;
	while (r->at < r->text.n) {
		char c = r->text.p[r->at];
		if (c == '\n') {
			r->at++;
			if (!depth)
				return 0;
			r->line++;
		} else if (is_space(c)) {
			r->at++;
		} else if (c == ';') {
			span rest = span_from(r->text, r->at + 1), comment = span_cut(&rest, '\n');
			read_comment(r, comment);
			r->at += 1 + comment.n;
		} else if (c == '(') {
			depth++;
			r->at++;
		} else if (c == ')') {
			if (!depth--)
				return fault(r, "a parenthesis too many");
			r->at++;
		} else if (!read_token(r)) {
			return fault(r, "bad escape, open quote, or too many words");
		}
	}
	return depth ? fault(r, "an open parenthesis") : 0;
}

/* ------------------------------------------------------------------ records */

static int add(struct reader *r, enum dns_type type, struct dns_record data)
{
	struct node *node = node_at(r->z, r->owner);

	if (node->n == RECORDS_MAX)
		return fault(r, "too many records at one name");
	struct record *rec = arena_new(&r->z->mem, struct record);
	*rec = (struct record){ .type = type, .data = data };
	*node->last = rec;
	node->last = &rec->next;
	node->n++;
	return 0;
}

static int add_text(struct reader *r, size_t at)
{
	struct buf b = BUF_INIT(65535);
	struct dns_record data = { 0 };

	for (; at < r->n; at++)
		buf_put_span(&b, r->t[at].s);
	data.text = arena_span(&r->z->mem, buf_span(&b));
	bool failed = b.failed;
	buf_done(&b);
	return failed ? fault(r, "too much text") : add(r, DNS_TXT, data);
}

static int add_address(struct reader *r, span s, enum dns_type type)
{
	struct dns_record data = { 0 };

	/* A mapped IPv6 address is still an AAAA record, though not one that SPF can match. */
	if (sock_parse_ip(s, 0, &data.addr) < 0 ||
	    (type == DNS_A) != (span_find(s, ':') == SPAN_NPOS))
		return fault(r, "bad address");
	return add(r, type, data);
}

static int add_mx(struct reader *r, size_t at)
{
	struct dns_record data = { 0 };
	uint64_t preference;

	if (at + 2 != r->n || !span_u64(r->t[at].s, 65535, &preference))
		return fault(r, "MX wants a preference and a name");
	data.preference = (uint16_t)preference;
	data.name = full_name(r, r->t[at + 1].s);
	return add(r, DNS_MX, data);
}

static int add_record(struct reader *r, span type, size_t at)
{
	static const struct {
		const char *name;
		enum dns_type type;
	} names[] = { { "PTR", DNS_PTR }, { "NS", DNS_NS }, { "CNAME", DNS_CNAME } };

	if (span_ieq_str(type, "TXT"))
		return add_text(r, at);
	if (span_ieq_str(type, "SPF")) {
		node_at(r->z, r->owner); /* the name exists */
		return 0;
	}
	if (span_ieq_str(type, "MX"))
		return add_mx(r, at);
	if (at == r->n)
		return fault(r, "no data");
	if (span_ieq_str(type, "A"))
		return add_address(r, r->t[at].s, DNS_A);
	if (span_ieq_str(type, "AAAA"))
		return add_address(r, r->t[at].s, DNS_AAAA);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (span_ieq_str(type, names[i].name)) {
			struct dns_record data = { .name = full_name(r, r->t[at].s) };
			return add(r, names[i].type, data);
		}
	}
	node_at(r->z, r->owner);
	return 0;
}

static bool is_ttl(span s)
{
	return s.n && s.p[0] >= '0' && s.p[0] <= '9';
}

static bool is_class(span s)
{
	return span_ieq_str(s, "IN");
}

static int take_entry(struct reader *r)
{
	size_t at = 0;

	if (!r->n)
		return 0;
	if (!r->t[0].quoted && r->t[0].s.n && r->t[0].s.p[0] == '$') {
		if (span_ieq_str(r->t[0].s, "$ORIGIN") && r->n == 2)
			r->origin = full_name(r, r->t[1].s);
		else if (!span_ieq_str(r->t[0].s, "$TTL"))
			return fault(r, "unknown directive");
		return 0;
	}
	if (!r->starts_blank)
		r->owner = full_name(r, r->t[at++].s);
	while (at < r->n && (is_ttl(r->t[at].s) || is_class(r->t[at].s)))
		at++;
	if (at == r->n)
		return fault(r, "no record type");
	return add_record(r, r->t[at].s, at + 1);
}

/* ------------------------------------------------------------------ answering */

static const struct record *next_of(const struct record *rec, enum dns_type type)
{
	while (rec && rec->type != type)
		rec = rec->next;
	return rec;
}

static const struct dns_answer *answer(void *arg, span name, enum dns_type type)
{
	struct trust_zone *z = arg;
	struct dns_answer *a = arena_new(&z->mem, struct dns_answer);
	const struct record *alias = NULL, *rec;
	const struct node *node = map_get(z->names, name);

	*a = (struct dns_answer){ .name = arena_span(&z->mem, name),
				  .type = type,
				  .status = DNS_NXDOMAIN };
	for (int hops = 0; node && hops < ALIASES_MAX; hops++) {
		alias = next_of(node->first, DNS_CNAME);
		if (!alias || type == DNS_CNAME)
			break;
		name = alias->data.name;
		node = map_get(z->names, name);
	}
	if (!node) {
		if (map_get(z->ancestors, name))
			a->status = DNS_NODATA;
		return a;
	}
	a->records = arena_array(&z->mem, struct dns_record, node->n);
	for (rec = node->first; (rec = next_of(rec, type)); rec = rec->next)
		a->records[a->n++] = rec->data;
	a->status = a->n ? DNS_OK : DNS_NODATA;
	if (node->fails != DNS_OK && (node->fails_only ? node->fails_only == type : !a->n)) {
		a->status = node->fails;
		a->n = 0;
	}
	return a;
}

int trust_zone_parse(span text, struct trust_zone **ret, struct err_info *info)
{
	struct trust_zone *z = xcalloc(1, sizeof(*z));
	int e = 0;

	arena_init(&z->mem);
	z->names = map_new();
	z->ancestors = map_new();
	z->lookup = (struct trust_lookup){ .ask = answer, .arg = z };
	struct reader r = { .z = z, .text = text, .info = info };
	r.t = arena_array(&z->mem, struct token, TOKENS_MAX);
	while (e == 0 && r.at < text.n) {
		e = read_entry(&r);
		if (e == 0)
			e = take_entry(&r);
	}
	if (e < 0)
		trust_zone_free(z);
	else
		*ret = z;
	return e;
}

void trust_zone_free(struct trust_zone *z)
{
	if (!z)
		return;
	map_free(z->names);
	map_free(z->ancestors);
	arena_done(&z->mem);
	free(z);
}

const struct trust_lookup *trust_zone_lookup(struct trust_zone *z)
{
	return &z->lookup;
}
