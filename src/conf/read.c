/* YAML text -> snapshot.  libyaml gives the tree with places; the schema gives it meaning.  Scalars
 * stay strings until the schema says otherwise, so there is no guessing of types (a name may be
 * "no"). */
#include "conf/conf_int.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "format/address.h"
#include "format/deferral.h"
#include "sys/file.h"

#define MAX_DEPTH   16
#define MAX_COLUMNS 16

struct reader {
	yaml_document_t doc;
	const char *file;
	struct conf *conf;
	struct err_info *info;
	struct conf_place at[128]; /* of each option's value, by its index; line 0: not given */
};

static const struct {
	enum sess_proto proto;
	bool tls;
} listener_kind[CONF_LISTENERS] = {
	{ SESS_PROTO_SMTP, false },	 { SESS_PROTO_SUBMISSION, false },
	{ SESS_PROTO_SUBMISSION, true }, { SESS_PROTO_IMAP, false },
	{ SESS_PROTO_IMAP, true },	 { SESS_PROTO_POP3, false },
	{ SESS_PROTO_POP3, true },	 { SESS_PROTO_LMTP, false },
};

static struct conf_place place_of(const struct reader *r, const yaml_node_t *n)
{
	return (struct conf_place){ r->file, n->start_mark.line + 1, n->start_mark.column + 1 };
}

static span scalar(const yaml_node_t *n)
{
	return span_of(n->data.scalar.value, n->data.scalar.length);
}

static int bad_type(struct reader *r, const struct conf_option *o, const yaml_node_t *n)
{
	struct conf_place at = place_of(r, n);
	char expected[CONF_EXPECTED];

	conf_expected(o, expected, sizeof expected);
	return conf_fail(r->info, &at, "%s: expected %s", o->name, expected);
}

/* The scalar N as column COLUMN of ROW. */
static int read_column(struct reader *r, const struct conf_option *o,
		       const struct conf_option *column, void *row, const yaml_node_t *n)
{
	struct conf_place at = place_of(r, n);
	struct conf_option named = *column;
	char name[100];

	if (n->type != YAML_SCALAR_NODE)
		return bad_type(r, o, n);
	snprintf(name, sizeof name, "%s: %s", o->name, column->name);
	named.name = name;
	return conf_value_set(r->conf, row, &named, scalar(n), &at, r->info);
}

/* Columns that the map N did not name. */
static int default_columns(struct reader *r, const struct conf_option *o, const bool *given,
			   void *row, const yaml_node_t *n)
{
	struct conf_place at = place_of(r, n);

	for (size_t i = 0; i < o->table->n_columns; i++) {
		const struct conf_option *column = &o->table->columns[i];
		int e;

		if (given[i])
			continue;
		if (!column->fallback)
			return conf_fail(r->info, &at, "%s: %s is missing", o->name, column->name);
		e = conf_value_set(r->conf, row, column, span_str(column->fallback), &at, r->info);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_row(struct reader *r, const struct conf_option *o, const yaml_node_t *n, void *row)
{
	const struct conf_table *t = o->table;
	bool given[MAX_COLUMNS] = { false };

	if (n->type != YAML_MAPPING_NODE)
		return bad_type(r, o, n);
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		yaml_node_t *key = yaml_document_get_node(&r->doc, p->key);
		struct conf_place at = place_of(r, key);
		size_t i = 0;
		int e;

		if (key->type != YAML_SCALAR_NODE)
			return bad_type(r, o, key);
		while (i < t->n_columns && !span_eq_str(scalar(key), t->columns[i].name))
			i++;
		if (i == t->n_columns)
			return bad_type(r, o, key);
		if (given[i])
			return conf_fail(r->info, &at, "%s: %s is given twice", o->name,
					 t->columns[i].name);
		given[i] = true;
		e = read_column(r, o, &t->columns[i], row,
				yaml_document_get_node(&r->doc, p->value));
		if (e < 0)
			return e;
	}
	return default_columns(r, o, given, row, n);
}

static int read_rows(struct reader *r, const struct conf_option *o, const yaml_node_t *n)
{
	size_t count = (size_t)(n->data.sequence.items.top - n->data.sequence.items.start);
	size_t *n_rows = (size_t *)(void *)((char *)r->conf + o->table->count_offset);
	char *rows;

	assert(o->table->n_columns <= MAX_COLUMNS);
	if (count > o->table->max)
		return bad_type(r, o, n);
	rows = arena_alloc(&r->conf->mem, (count + 1) * o->table->row_size);
	*(void **)(void *)((char *)r->conf + o->offset) = rows;
	for (size_t i = 0; i < count; i++, rows += o->table->row_size) {
		int e = read_row(r, o,
				 yaml_document_get_node(&r->doc, n->data.sequence.items.start[i]),
				 rows);

		if (e < 0)
			return e;
		(*n_rows)++;
	}
	return 0;
}

static int read_list(struct reader *r, const struct conf_option *o, const yaml_node_t *n)
{
	yaml_node_item_t *i = n->data.sequence.items.start, *end = n->data.sequence.items.top;
	int ret;

	if (o->type == CONF_ROWS)
		return read_rows(r, o, n);
	if (o->type != CONF_ADDRESSES && o->type != CONF_NETWORKS && o->type != CONF_SET)
		return bad_type(r, o, n);
	for (; i < end; i++) {
		yaml_node_t *item = yaml_document_get_node(&r->doc, *i);
		struct conf_place at = place_of(r, item);

		if (item->type != YAML_SCALAR_NODE)
			return bad_type(r, o, item);
		ret = conf_value_set(r->conf, r->conf, o, scalar(item), &at, r->info);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_option(struct reader *r, const struct conf_option *o, const yaml_node_t *key,
		       const yaml_node_t *n)
{
	struct conf_place at = place_of(r, n), at_key = place_of(r, key);
	struct conf_place *seen = &r->at[o - conf_options];

	if (seen->line)
		return conf_fail(r->info, &at_key, "%s is given twice", o->name);
	*seen = at;
	if (n->type == YAML_SEQUENCE_NODE)
		return read_list(r, o, n);
	if (n->type != YAML_SCALAR_NODE || o->type == CONF_ROWS)
		return bad_type(r, o, n);
	return conf_value_set(r->conf, r->conf, o, scalar(n), &at, r->info);
}

/* Is PREFIX the beginning of some option's name ("listen.")? */
static bool is_section(span prefix)
{
	for (size_t i = 0; i < conf_n_options; i++) {
		span name = span_str(conf_options[i].name);

		if (name.n > prefix.n && span_starts(name, prefix) && name.p[prefix.n] == '.')
			return true;
	}
	return false;
}

static int read_section(struct reader *r, const yaml_node_t *n, span prefix, unsigned depth)
{
	struct conf_place at = place_of(r, n);
	int ret;

	if (n->type != YAML_MAPPING_NODE || depth > 4)
		return conf_fail(r->info, &at, "expected a section with keys and values");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top;
	     p++) {
		yaml_node_t *key = yaml_document_get_node(&r->doc, p->key);
		yaml_node_t *value = yaml_document_get_node(&r->doc, p->value);
		_cleanup_(buf_donep) struct buf name = BUF_INIT(200), shown = BUF_INIT(400);
		const struct conf_option *o;

		at = place_of(r, key);
		if (key->type != YAML_SCALAR_NODE)
			return conf_fail(r->info, &at, "expected a key");
		buf_put_span(&name, prefix);
		if (prefix.n)
			buf_put_char(&name, '.');
		buf_put_span(&name, scalar(key));
		o = conf_option_find(buf_span(&name));
		if (!name.failed && o) {
			ret = read_option(r, o, key, value);
		} else if (!name.failed && is_section(buf_span(&name))) {
			ret = read_section(r, value, buf_span(&name), depth + 1);
		} else {
			buf_put_escaped(&shown, buf_span(&name), 60);
			return conf_fail(r->info, &at,
					 "unknown key \"%s\" (postrider config show lists all)",
					 buf_cstr(&shown));
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* The default of a list is YAML as the file's own. */
static int set_default_rows(struct reader *r, const struct conf_option *o)
{
	span text = span_str(o->fallback);
	struct reader own = { .file = "default", .conf = r->conf, .info = r->info };
	yaml_parser_t parser;
	int ret = ERR_INTERNAL;

	if (!text.n)
		return 0;
	if (!yaml_parser_initialize(&parser))
		return err_set(r->info, ERR_NOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
	if (yaml_parser_load(&parser, &own.doc)) {
		ret = read_rows(&own, o, yaml_document_get_root_node(&own.doc));
		yaml_document_delete(&own.doc);
	}
	yaml_parser_delete(&parser);
	return ret;
}

/* Options the file does not name get their default. */
static int set_defaults(struct reader *r)
{
	struct conf_place at = { "default", 0, 0 };
	int ret;

	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];

		if (r->at[i].line || (o->type == CONF_ADDRESSES && !*o->fallback))
			continue;
		ret = o->type == CONF_ROWS ? set_default_rows(r, o)
					   : conf_value_set(r->conf, r->conf, o,
							    span_str(o->fallback), &at, r->info);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Complains about the option NAME at its value, or at the file's beginning if that is missing. */
static int bad_value(struct reader *r, const char *name, const char *expected)
{
	struct conf_place at = r->at[conf_option_find(span_str(name)) - conf_options];

	if (!at.line)
		at = (struct conf_place){ r->file, 1, 1 };
	return conf_fail(r->info, &at, "%s: expected %s", name, expected);
}

static bool hostname_ok(span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return false;
	return domain_valid(s, false) && s.p[0] != '[';
}

/* ADDRESS@PORT of a name server, or empty. */
static bool server_ok(span s)
{
	struct sockaddr_any unused;
	size_t at = span_rfind(s, '@');
	uint64_t port;

	return !s.n || (at != SPAN_NPOS && span_u64(span_from(s, at + 1), 65535, &port) && port &&
			sock_parse_ip(span_sub(s, 0, at), 0, &unused) == 0);
}

/* A host of relay.hosts: NULL, or what it should be. */
static const char *relay_host_fault(const struct conf *c, const struct conf_relay_host *h)
{
	struct sockaddr_any unused;

	if (!conf_relay_name_ok(h->name))
		return "names of letters, digits, \"-\", \"_\" and \".\", at most 64";
	if (conf_relay_host(c, h->name) != h)
		return "each name once";
	if (!domain_valid(h->host, true) && sock_parse_ip(h->host, 0, &unused) < 0)
		return "a host name or an IP address as host";
	if (!h->user.n != !h->password_file.n)
		return "user and password_file together";
	if (h->password_file.n && h->password_file.p[0] != '/')
		return "an absolute path as password_file";
	return NULL;
}

/* A row of filter.chain: NULL, or what it should be. */
static const char *filter_fault(const struct conf *c, const struct conf_filter *f)
{
	struct sockaddr_any a;
	bool url = span_istarts(f->address, SPAN("http://")) ||
		   span_istarts(f->address, SPAN("https://"));

	if (!conf_relay_name_ok(f->name))
		return "names of letters, digits, \"-\", \"_\" and \".\", at most 64";
	for (const struct conf_filter *g = c->filters; g < f; g++)
		if (span_eq(f->name, g->name))
			return "each name once";
	if (f->kind == CONF_FILTER_HTTP)
		return url ? NULL
			   : "a URL (http://... or https://...) as address of an http filter";
	if (span_find(f->address, ':') == 0 || span_find(f->address, ':') == SPAN_NPOS ||
	    sock_parse(f->address, &a) < 0 || !sock_port(&a))
		return "ADDRESS:PORT, with an IP address, as address of a milter or of clamd";
	return NULL;
}

/* A row of queue.rules: NULL, or what it should be. */
static const char *rule_fault(const struct conf *c, const struct conf_rule *r)
{
	if (!deferral_match_valid(r->match))
		return deferral_match_help;
	if ((r->first ? r->first : c->retry_first) > (r->max ? r->max : c->retry_max))
		return "first to be no more than max";
	return NULL;
}

/* A route of relay.routes: NULL, or what it should be. */
static const char *route_fault(const struct conf *c, const struct conf_route *w)
{
	span domain = w->domain, sender = w->sender;

	if (span_starts(domain, SPAN(".")))
		domain = span_from(domain, 1);
	if (!span_eq_str(w->domain, "*") && !domain_valid(domain, false))
		return "a domain such as example.org, .example.org or * (other scripts as xn--...)";
	if (sender.n)
		span_cut(&sender, '@');
	if (w->sender.n && !domain_valid(sender, false))
		return "a sender such as user@example.org or @example.org";
	if (!conf_way_ok(c, w->to, true))
		return "to as mx, smtp:[HOST]:PORT, lmtp:[HOST]:PORT, smtp:DOMAIN, via:NAME with a "
		       "name of relay.hosts, or \"refuse: TEXT\"";
	return NULL;
}

/* An issuer of auth.oauth: NULL, or what it should be. */
static const char *oauth_fault(const struct conf_oauth *o)
{
	if (!o->issuer.n || !o->audience.n)
		return "issuer and audience with something in them";
	if (!o->jwks_file.n && !o->jwks_url.n && !o->introspection_url.n)
		return "jwks_file, jwks_url or introspection_url with each issuer";
	if (o->jwks_file.n && o->jwks_url.n)
		return "one of jwks_file and jwks_url, not both";
	if ((o->jwks_url.n && !span_starts(o->jwks_url, SPAN("https://"))) ||
	    (o->introspection_url.n && !span_starts(o->introspection_url, SPAN("https://"))))
		return "https:// URLs";
	if (!o->client_id.n != !o->secret_file.n)
		return "client_id and secret_file together";
	if ((o->jwks_file.n && o->jwks_file.p[0] != '/') ||
	    (o->secret_file.n && o->secret_file.p[0] != '/'))
		return "an absolute path as jwks_file and secret_file";
	return NULL;
}

/* What one value alone, or its type, cannot tell. */
static int check_whole(struct reader *r)
{
	struct conf *c = r->conf;
	struct sockaddr_any unused;

	if (!hostname_ok(c->hostname))
		return bad_value(r, "server.hostname",
				 "this server's full name in lower case, such as mx.example.org");
	if (!c->data_dir.n || c->data_dir.p[0] != '/')
		return bad_value(r, "server.data", "an absolute path");
	if (c->srs_domain.n && !hostname_ok(c->srs_domain))
		return bad_value(r, "forward.srs_domain",
				 "a domain in lower case whose mail arrives here, or nothing");
	if (c->relay_source.n && sock_parse_ip(c->relay_source, 0, &unused) < 0)
		return bad_value(r, "relay.source", "an IP address of this host, or nothing");
	for (size_t i = 0; i < c->n_verp; i++)
		if (span_find(c->verp[i].sender, '@') == SPAN_NPOS)
			return bad_value(r, "relay.verp",
					 "senders as user@example.org or @example.org");
	for (size_t i = 0; i < c->n_relay_hosts; i++) {
		const char *fault = relay_host_fault(c, &c->relay_hosts[i]);

		if (fault)
			return bad_value(r, "relay.hosts", fault);
	}
	for (size_t i = 0; i < c->n_routes; i++) {
		const char *fault = route_fault(c, &c->routes[i]);

		if (fault)
			return bad_value(r, "relay.routes", fault);
	}
	for (size_t i = 0; i < c->n_filters; i++) {
		const char *fault = filter_fault(c, &c->filters[i]);

		if (fault)
			return bad_value(r, "filter.chain", fault);
	}
	for (size_t i = 0; i < c->n_oauth; i++) {
		const char *fault = oauth_fault(&c->oauth[i]);

		if (fault)
			return bad_value(r, "auth.oauth", fault);
	}
	if (!server_ok(c->dns_forward))
		return bad_value(r, "dns.forward", "ADDRESS@PORT, or nothing");
	if (!server_ok(c->dns_stub))
		return bad_value(r, "dns.stub", "ADDRESS@PORT, or nothing");
	if (!c->dns_stub.n != !c->dns_stub_zone.n)
		return bad_value(r, "dns.stub_zone", "to be given together with dns.stub");
	if (c->retry_first > c->retry_max)
		return bad_value(r, "queue.retry_first", "no more than queue.retry_max");
	for (size_t i = 0; i < c->n_retry_rules; i++) {
		const char *fault = rule_fault(c, &c->retry_rules[i]);

		if (fault)
			return bad_value(r, "queue.rules", fault);
	}
	return 0;
}

/* libyaml's complaint, where it stands. */
static int bad_yaml(struct reader *r, const yaml_parser_t *parser)
{
	struct conf_place at = { r->file, parser->problem_mark.line + 1,
				 parser->problem_mark.column + 1 };

	return conf_fail(r->info, &at, "not valid YAML: %s",
			 parser->problem ? parser->problem : "unreadable");
}

/* A second document would otherwise be ignored in silence. */
static int want_end(struct reader *r, yaml_parser_t *parser)
{
	yaml_document_t more;
	struct conf_place at;
	yaml_node_t *root;

	if (!yaml_parser_load(parser, &more))
		return bad_yaml(r, parser);
	root = yaml_document_get_root_node(&more);
	if (root)
		at = place_of(r, root);
	yaml_document_delete(&more);
	return root ? conf_fail(r->info, &at, "expected the end: a file is one YAML document") : 0;
}

/* libyaml's time grows with the square of the depth; no option needs more than a few levels. */
static int check_depth(struct reader *r, span text)
{
	yaml_parser_t parser;
	unsigned depth = 0;
	bool end = false;
	int ret = 0;

	if (!yaml_parser_initialize(&parser))
		return err_set(r->info, ERR_NOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
	while (!end && ret == 0) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&parser, &ev)) {
			ret = bad_yaml(r, &parser);
			break;
		}
		if (ev.type == YAML_SEQUENCE_START_EVENT || ev.type == YAML_MAPPING_START_EVENT)
			depth++;
		else if (ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT)
			depth--;
		if (depth > MAX_DEPTH) {
			struct conf_place at = { r->file, ev.start_mark.line + 1,
						 ev.start_mark.column + 1 };

			ret = conf_fail(r->info, &at, "nested too deep");
		}
		end = ev.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&parser);
	return ret;
}

static int read_document(struct reader *r, span text)
{
	yaml_parser_t parser;
	yaml_node_t *root;
	int ret = check_depth(r, text);

	if (ret < 0)
		return ret;
	if (!yaml_parser_initialize(&parser))
		return err_set(r->info, ERR_NOMEM, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text.p, text.n);
	if (!yaml_parser_load(&parser, &r->doc)) {
		ret = bad_yaml(r, &parser);
		yaml_parser_delete(&parser);
		return ret;
	}
	root = yaml_document_get_root_node(&r->doc);
	ret = root ? want_end(r, &parser) : 0;
	yaml_parser_delete(&parser);
	if (root && ret == 0)
		ret = read_section(r, root, SPAN_NULL, 0);
	if (ret == 0)
		ret = set_defaults(r);
	if (ret == 0)
		ret = check_whole(r);
	yaml_document_delete(&r->doc);
	return ret;
}

int conf_parse(span text, const char *file, struct conf **ret, struct err_info *info)
{
	_cleanup_(conf_unrefp) struct conf *c = xcalloc(1, sizeof *c);
	struct reader r = { .file = file, .conf = c, .info = info };
	int e;

	assert(conf_n_options <= ARRAY_LEN(r.at));
	arena_init(&c->mem);
	c->refs = 1;
	for (size_t i = 0; i < CONF_LISTENERS; i++) {
		c->listeners[i].proto = listener_kind[i].proto;
		c->listeners[i].implicit_tls = listener_kind[i].tls;
	}
	if (text.n > CONF_MAX_TEXT)
		return err_set(info, ERR_TOOBIG, "%s:1:1: the file is larger than 64 KiB", file);
	e = read_document(&r, text);
	if (e < 0)
		return e;
	*ret = STEAL_PTR(&c);
	return 0;
}

int conf_load(const char *path, struct conf **ret, struct buf *ret_text, struct err_info *info)
{
	int e = file_read(path, CONF_MAX_TEXT, ret_text);

	if (e < 0)
		return err_set(info, e, "%s: %s", path, err_text(e));
	return conf_parse(buf_span(ret_text), path, ret, info);
}

bool conf_relay_name_ok(span name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";

	for (size_t i = 0; i < name.n; i++)
		if (!memchr(allowed, name.p[i], sizeof allowed - 1))
			return false;
	return name.n > 0 && name.n <= 64;
}

const struct conf_relay_host *conf_relay_host(const struct conf *c, span name)
{
	for (size_t i = 0; i < c->n_relay_hosts; i++)
		if (span_eq(c->relay_hosts[i].name, name))
			return &c->relay_hosts[i];
	return NULL;
}

void conf_set_password(struct conf *c, span file, span password)
{
	for (size_t i = 0; i < c->n_relay_hosts; i++)
		if (span_eq(c->relay_hosts[i].password_file, file))
			c->relay_hosts[i].password = arena_span(&c->mem, password);
	for (size_t i = 0; i < c->n_oauth; i++)
		if (span_eq(c->oauth[i].secret_file, file))
			c->oauth[i].secret = arena_span(&c->mem, password);
}

struct conf *conf_ref(struct conf *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

void conf_unref(struct conf *c)
{
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (size_t i = 0; i < c->n_relay_hosts; i++)
		if (c->relay_hosts[i].password.n)
			explicit_bzero((char *)c->relay_hosts[i].password.p,
				       c->relay_hosts[i].password.n);
	for (size_t i = 0; i < c->n_oauth; i++)
		if (c->oauth[i].secret.n)
			explicit_bzero((char *)c->oauth[i].secret.p, c->oauth[i].secret.n);
	arena_done(&c->mem);
	free(c);
}
