/* Sender authentication by hand: spf, dkim, arc and dmarc over a message file and a zone file.
 * Nothing here asks the network; the exit code says whether there is an answer, not which. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "format/header.h"
#include "trust/arc.h"
#include "trust/authres.h"
#include "trust/dkim.h"
#include "trust/dmarc.h"
#include "trust/spf.h"
#include "trust/zone.h"

#define MESSAGE_MAX (256 * 1024 * 1024)
#define ZONE_MAX    (64 * 1024 * 1024)
#define KEY_MAX	    16384

/* What the commands work on; freed as a whole. */
struct bench {
	struct arena mem;
	struct trust_zone *zone;
	struct sign_key *key;
	struct buf text; /* the message with CRLF line ends */
	struct message message;
	struct sockaddr_any ip;
	int64_t now;
};

static void bench_done(struct bench *b)
{
	trust_zone_free(b->zone);
	sign_key_free(b->key);
	buf_done(&b->text);
	arena_done(&b->mem);
}

/* ------------------------------------------------------------------ input */

/* PATH, or standard input for "-"; 0 or an exit code. */
static int read_file(const char *path, size_t max, struct buf *b)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
	size_t n = 1;
	bool bad;

	if (!f)
		return cli_error(EX_NOINPUT, "%s: %s", path, strerror(errno));
	while (n && !b->failed) {
		char *to = buf_reserve(b, MIN(max + 1 - b->n, 65536));
		if (!to)
			break;
		n = fread(to, 1, MIN(max + 1 - b->n, 65536), f);
		buf_added(b, n);
	}
	bad = ferror(f);
	if (f != stdin)
		fclose(f);
	if (bad)
		return cli_error(EX_IOERR, "%s: it cannot be read", path);
	if (b->n > max)
		return cli_error(EX_DATAERR, "%s is too large", path);
	return 0;
}

/* A stored message may have bare LF; what was signed had CRLF. */
static void put_crlf(struct buf *b, span text)
{
	while (text.p) {
		span line = span_cut(&text, '\n');
		bool crlf = line.n && line.p[line.n - 1] == '\r';

		buf_put_span(b, line);
		if (text.p)
			buf_put_str(b, crlf ? "\n" : "\r\n");
	}
}

static int take_message(const struct cli *c, struct bench *b)
{
	_cleanup_(buf_donep) struct buf raw = BUF_INIT(MESSAGE_MAX + 1);
	const char *path = cli_arg(c, "file");
	int code = read_file(path, MESSAGE_MAX, &raw);

	if (code)
		return code;
	buf_init(&b->text, 2 * raw.n + 2);
	put_crlf(&b->text, buf_span(&raw));
	if (message_parse(buf_span(&b->text), &b->mem, &b->message) < 0)
		return cli_error(EX_DATAERR, "%s: the header is too large", path);
	return 0;
}

static int take_zone(const struct cli *c, struct bench *b)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(ZONE_MAX + 1);
	const char *path = cli_arg(c, "zone");
	struct err_info info = { 0 };
	int code;

	if (!path)
		return cli_error(EX_USAGE, "%s works offline only: give --zone FILE",
				 c->command->name);
	code = read_file(path, ZONE_MAX, &text);
	if (code)
		return code;
	if (trust_zone_parse(buf_span(&text), &b->zone, &info) < 0)
		return cli_error(EX_DATAERR, "%s: %s", path, info.text);
	return 0;
}

static int take_key(const struct cli *c, struct bench *b)
{
	_cleanup_(buf_donep) struct buf pem = BUF_INIT(KEY_MAX + 1);
	const char *path = cli_arg(c, "key");
	int code;

	if (!path || !cli_arg(c, "domain") || !cli_arg(c, "selector"))
		return cli_error(EX_USAGE, "%s needs --domain, --selector and --key",
				 c->command->name);
	code = read_file(path, KEY_MAX, &pem);
	if (code)
		return code;
	int e = sign_key_from_pem(buf_span(&pem), &b->key);
	explicit_bzero(pem.p, pem.n);
	if (e == ERR_UNSUPPORTED)
		return cli_error(EX_DATAERR,
				 "%s: neither an Ed25519 key nor an RSA key of %d to %d bits", path,
				 SIGN_RSA_MIN, SIGN_RSA_MAX);
	return e < 0 ? cli_error(EX_DATAERR, "%s: no private key in PEM", path) : 0;
}

static int take_time(const struct cli *c, const char *name, int64_t fallback, int64_t *ret)
{
	const char *text = cli_arg(c, name);
	uint64_t v = 0;

	if (text && !span_u64(span_str(text), 999999999999ull, &v))
		return cli_error(EX_USAGE, "--%s wants seconds since 1970", name);
	*ret = text ? (int64_t)v : fallback;
	return 0;
}

static int take_ip(const struct cli *c, struct bench *b)
{
	const char *ip = cli_arg(c, "ip");

	if (!ip || sock_parse_ip(span_str(ip), 0, &b->ip) < 0)
		return cli_error(EX_USAGE, "%s needs the client's address: --ip ADDRESS",
				 c->command->name);
	return 0;
}

/* Brackets around the reverse-path are welcome. */
static span reverse_path(const struct cli *c)
{
	span s = span_str(cli_arg(c, "from"));

	return s.n >= 2 && s.p[0] == '<' && s.p[s.n - 1] == '>' ? span_sub(s, 1, s.n - 2) : s;
}

static struct spf_input spf_input(const struct cli *c, const struct bench *b)
{
	return (struct spf_input){ .ip = b->ip,
				   .helo = span_str(cli_arg(c, "helo")),
				   .from = reverse_path(c),
				   .receiver = span_str(cli_arg(c, "receiver")),
				   .now = b->now };
}

/* ------------------------------------------------------------------ output */

static json_t *row_new(enum trust_result r, const char *reason)
{
	json_t *row = json_object();

	json_object_set_new(row, "result", json_string(trust_result_text(r)));
	json_object_set_new(row, "reason", json_string(reason));
	return row;
}

static void row_span(json_t *row, const char *key, span value)
{
	if (value.n)
		json_object_set_new(row, key, json_span(value));
}

static json_t *row_spf(const struct spf_verdict *v)
{
	json_t *row = row_new(v->result, v->reason);

	row_span(row, "domain", v->domain);
	row_span(row, "sender", v->sender);
	row_span(row, "term", v->term);
	row_span(row, "explanation", v->explanation);
	json_object_set_new(row, "lookups", json_integer(v->terms));
	json_object_set_new(row, "void_lookups", json_integer(v->voids));
	return row;
}

static json_t *row_signature(const struct dkim_signature *s)
{
	json_t *row = row_new(s->result, s->reason);

	row_span(row, "domain", s->domain);
	row_span(row, "selector", s->selector);
	row_span(row, "identity", s->identity);
	row_span(row, "algorithm", s->algorithm);
	if (s->key_bits)
		json_object_set_new(row, "key_bits", json_integer(s->key_bits));
	if (s->testing)
		json_object_set_new(row, "testing", json_true());
	if (s->future)
		json_object_set_new(row, "future", json_true());
	if (s->partial) {
		json_object_set_new(row, "signed_length", json_integer((json_int_t)s->length));
		json_object_set_new(row, "body_length", json_integer((json_int_t)s->body_length));
	}
	json_object_set_new(row, "counts_for_dmarc", json_boolean(dkim_counts(s)));
	return row;
}

static json_t *row_dkim(const struct dkim_verdict *v)
{
	const char *reason = "no signature";
	json_t *list = json_array(), *row;

	for (size_t i = v->n; i-- > 0;) {
		if (v->signature[i].result == v->result)
			reason = v->signature[i].reason;
	}
	row = row_new(v->result, reason);
	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(list, row_signature(&v->signature[i]));
	json_object_set_new(row, "signatures", list);
	json_object_set_new(row, "found", json_integer((json_int_t)v->found));
	return row;
}

static json_t *row_dmarc(const struct dmarc_verdict *v)
{
	json_t *row = row_new(v->result, v->reason);

	row_span(row, "author_domain", v->author);
	row_span(row, "organizational_domain", v->organizational);
	row_span(row, "record_domain", v->record_domain);
	row_span(row, "aligned_domain", v->aligned_domain);
	if (v->record_domain.n) {
		json_object_set_new(row, "policy", json_string(dmarc_policy_text(v->policy)));
		json_object_set_new(row, "testing", json_boolean(v->record.testing));
		json_object_set_new(row, "spf_aligned", json_boolean(v->spf_aligned));
		json_object_set_new(row, "dkim_aligned", json_boolean(v->dkim_aligned));
	}
	return row;
}

static void print_text(const char *what, const json_t *row)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);
	span term = json_str(row, "term");

	buf_put_escaped(&b, json_str(row, "reason"), 1000);
	if (term.n) {
		buf_put_str(&b, ": ");
		buf_put_escaped(&b, term, 1000);
	}
	printf("%s: %s (%s)\n", what, json_string_value(json_object_get(row, "result")),
	       buf_cstr(&b));
}

/* Prints ROW and lets it go. */
static int show(const struct cli *c, const char *what, json_t *row)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(JSON_MAX_TEXT);

	if (c->json) {
		json_put(&b, row);
		printf("%s\n", buf_cstr(&b));
	} else {
		print_text(what, row);
	}
	json_decref(row);
	return 0;
}

/* ------------------------------------------------------------------ commands */

/* All commands begin alike; NEEDS picks what else they take. */
enum { NEED_ZONE = 1, NEED_MESSAGE = 2, NEED_IP = 4, NEED_KEY = 8 };

static int bench_init(const struct cli *c, unsigned needs, struct bench *b)
{
	int code;

	*b = (struct bench){ 0 };
	arena_init(&b->mem);
	code = take_time(c, "time", (int64_t)time(NULL), &b->now);
	if (!code && needs & NEED_IP)
		code = take_ip(c, b);
	if (!code && needs & NEED_KEY)
		code = take_key(c, b);
	if (!code && needs & NEED_ZONE)
		code = take_zone(c, b);
	if (!code && needs & NEED_MESSAGE)
		code = take_message(c, b);
	return code;
}

int cli_spf_check(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	struct spf_verdict v, helo;
	int code = bench_init(c, NEED_ZONE | NEED_IP, &b);

	if (code)
		return code;
	struct spf_input in = spf_input(c, &b);
	spf_check(&in, trust_zone_lookup(b.zone), &b.mem, &v);
	spf_check_helo(&in, trust_zone_lookup(b.zone), &b.mem, &helo);
	json_t *row = row_spf(&v);
	json_object_set_new(row, "identity", json_string(in.from.n ? "mailfrom" : "helo"));
	json_object_set_new(row, "helo", row_spf(&helo));
	return show(c, "spf", row);
}

int cli_dkim_verify(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	struct dkim_verdict v;
	int code = bench_init(c, NEED_ZONE | NEED_MESSAGE, &b);

	if (code)
		return code;
	dkim_verify(&b.message, b.now, trust_zone_lookup(b.zone), &b.mem, &v);
	return show(c, "dkim", row_dkim(&v));
}

int cli_arc_verify(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	struct arc_verdict v;
	int code = bench_init(c, NEED_ZONE | NEED_MESSAGE, &b);

	if (code)
		return code;
	arc_verify(&b.message, trust_zone_lookup(b.zone), &b.mem, &v);
	json_t *row = row_new(v.result, v.reason);
	json_object_set_new(row, "instance", json_integer(v.instance));
	row_span(row, "domain", v.domain);
	row_span(row, "selector", v.selector);
	return show(c, "arc", row);
}

int cli_dmarc_check(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	struct spf_verdict spf;
	struct dkim_verdict dkim;
	struct dmarc_verdict v;
	int code = bench_init(c, NEED_ZONE | NEED_IP | NEED_MESSAGE, &b);

	if (code)
		return code;
	const struct trust_lookup *l = trust_zone_lookup(b.zone);
	struct spf_input in = spf_input(c, &b);
	spf_check(&in, l, &b.mem, &spf);
	dkim_verify(&b.message, b.now, l, &b.mem, &dkim);
	dmarc_check(&b.message, &spf, &dkim, l, &b.mem, &v);
	json_t *row = row_dmarc(&v);
	json_object_set_new(row, "spf", row_spf(&spf));
	json_object_set_new(row, "dkim", row_dkim(&dkim));
	return show(c, "dmarc", row);
}

/* The new fields above the message, or in a row. */
static int show_signed(const struct cli *c, const struct bench *b, const struct buf *fields,
		       const char *reason)
{
	if (c->json) {
		json_t *row = row_new(TRUST_PASS, reason);
		row_span(row, "header", buf_span(fields));
		return show(c, "signed", row);
	}
	fwrite(fields->p, 1, fields->n, stdout);
	fwrite(b->text.p, 1, b->text.n, stdout);
	return ferror(stdout) ? EX_IOERR : 0;
}

static bool take_canon(const char *text, struct dkim_sign_options *o)
{
	span body = span_str(text ? text : "relaxed/relaxed"), header = span_cut(&body, '/');

	o->header = span_eq_str(header, "relaxed") ? CANON_RELAXED : CANON_SIMPLE;
	o->body = span_eq_str(body, "relaxed") ? CANON_RELAXED : CANON_SIMPLE;
	return (o->header == CANON_RELAXED || span_eq_str(header, "simple")) &&
	       (o->body == CANON_RELAXED || !body.p || span_eq_str(body, "simple"));
}

int cli_dkim_sign(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	_cleanup_(buf_donep) struct buf field = BUF_INIT(65536);
	int code = bench_init(c, NEED_KEY | NEED_MESSAGE, &b);
	struct dkim_sign_options o = { .domain = span_str(cli_arg(c, "domain")),
				       .selector = span_str(cli_arg(c, "selector")),
				       .now = b.now,
				       .headers = span_str(cli_arg(c, "headers")) };

	if (code == 0)
		code = take_time(c, "expires", 0, &o.expires);
	if (code)
		return code;
	if (!take_canon(cli_arg(c, "canon"), &o))
		return cli_error(EX_USAGE, "--canon is simple or relaxed, for header/body");
	if (dkim_sign(&b.message, &o, b.key, &b.mem, &field) < 0)
		return cli_error(EX_DATAERR,
				 "a signature needs a domain, a selector and a From field");
	return show_signed(c, &b, &field, "signed");
}

static int sign_with_key(void *arg, const uint8_t digest[32], struct buf *sig)
{
	return sign_digest(arg, digest, sig);
}

int cli_arc_seal(struct cli *c)
{
	_cleanup_(bench_done) struct bench b;
	_cleanup_(buf_donep) struct buf set = BUF_INIT(256 * 1024);
	struct arc_verdict v = { .result = TRUST_NONE };
	int code = bench_init(c, NEED_KEY | NEED_MESSAGE, &b);
	struct arc_seal_options o = { .domain = span_str(cli_arg(c, "domain")),
				      .selector = span_str(cli_arg(c, "selector")),
				      .now = b.now,
				      .authserv_id = span_str(cli_arg(c, "authserv_id")),
				      .headers = span_str(cli_arg(c, "headers")),
				      .sign = sign_with_key,
				      .arg = b.key };

	/* Only what is sealed already must be looked into. */
	if (code == 0 && message_find(&b.message, "ARC-Seal", 0) != MESSAGE_NO_FIELD)
		code = take_zone(c, &b);
	if (code)
		return code;
	if (!o.authserv_id.n)
		o.authserv_id = o.domain;
	o.type = sign_key_type(b.key);
	if (b.zone)
		arc_verify(&b.message, trust_zone_lookup(b.zone), &b.mem, &v);
	switch (arc_seal(buf_span(&b.text), &v, &o, &b.mem, &set)) {
	case 0:
		return show_signed(c, &b, &set, v.reason ? v.reason : "the first set");
	case ERR_PERM:
		return cli_error(EX_UNAVAILABLE, "the chain is sealed as broken; nothing is added");
	case ERR_TOOBIG:
		return cli_error(EX_UNAVAILABLE, "the chain is too long");
	default:
		return cli_error(EX_DATAERR, "the message cannot be sealed");
	}
}
