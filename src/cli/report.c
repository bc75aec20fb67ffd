/* report dmarc, report tlsrpt: what others say about a domain's mail, from files as they arrive: XML or
 * JSON, packed with gzip or zip, or the mail that carries them. */
#include "cli/cli_int.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "format/mime.h"
#include "sys/file.h"
#include "sys/inflate.h"
#include "trust/report.h"

#define FILE_MAX   (64u * 1024 * 1024)
#define REPORT_MAX (128u * 1024 * 1024) /* unpacked */

struct reports {
	struct cli *c;
	const char *path;
	/* Shows what TEXT says; 0 or an error with INFO. */
	int (*show)(struct reports *j, span text, struct arena *mem, struct err_info *info);
	char first;			       /* what a report's text begins with: '<' or '{' */
	unsigned long long reports, good, bad; /* messages or sessions */
	int code;
};

/* ------------------------------------------------------------------ finding the report */

/* TEXT unpacked, if it is packed; what it is then is in B or is TEXT itself. */
static int unpack(span text, struct buf *b, span *ret)
{
	int e = 0;

	*ret = text;
	if (span_starts(text, SPAN("\x1f\x8b")))
		e = inflate_gzip(text, b);
	else if (span_starts(text, SPAN("PK\x03\x04")))
		e = inflate_zip(text, b);
	else
		return 0;
	*ret = buf_span(b);
	return e;
}

/* Some programs begin a file with a byte order mark. */
static span without_mark(span text)
{
	return span_starts(text, SPAN("\xef\xbb\xbf")) ? span_from(text, 3) : text;
}

static bool looks_right(const struct reports *j, span text)
{
	text = span_trim(without_mark(text));
	return text.n && text.p[0] == j->first;
}

static int take_text(struct reports *j, span text, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem;
	int e;

	arena_init(&mem);
	e = j->show(j, without_mark(text), &mem, info);
	j->reports += e == 0;
	return e;
}

/* The first part of the mail that is a report; 1: none is. */
static int take_mail(struct reports *j, span mail, struct err_info *info)
{
	_cleanup_(arena_donep) struct arena mem;
	const struct mime_part *p;
	int found = 1;

	arena_init(&mem);
	p = mime_parse(mail, &mem);
	while (p && found == 1) {
		_cleanup_(buf_donep) struct buf body = BUF_INIT(FILE_MAX),
						plain = BUF_INIT(REPORT_MAX);
		span text;

		if (!p->child && mime_decode_body(mail, p, &body) == 0 &&
		    unpack(buf_span(&body), &plain, &text) == 0 && looks_right(j, text))
			found = take_text(j, text, info);
		if (p->child) {
			p = p->child;
			continue;
		}
		while (p && !p->next)
			p = p->parent;
		p = p ? p->next : NULL;
	}
	return found;
}

static int take_file(struct reports *j, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf file = BUF_INIT(FILE_MAX), plain = BUF_INIT(REPORT_MAX);
	span text;
	int e = file_read(j->path, FILE_MAX, &file);

	if (e < 0)
		return err_set(info, e, "%s", err_text(e));
	e = unpack(buf_span(&file), &plain, &text);
	if (e == ERR_TOOBIG)
		return err_set(info, e, "unpacked it is larger than any report");
	if (e < 0)
		return err_set(info, e, "it cannot be unpacked");
	if (looks_right(j, text))
		return take_text(j, text, info);
	e = take_mail(j, text, info);
	return e == 1 ? err_set(info, ERR_SYNTAX, "there is no such report in it") : e;
}

/* ------------------------------------------------------------------ showing */

static void put_line(const json_t *row)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(JSON_MAX_TEXT);

	json_put(&b, row);
	printf("%s\n", buf_cstr(&b));
}

static void put(span s, int width)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);

	buf_put_escaped(&b, s, 300);
	printf("%-*s", width, buf_cstr(&b));
}

static void put_day(uint64_t seconds)
{
	time_t t = (time_t)MIN(seconds, (uint64_t)INT32_MAX * 2);
	struct tm tm;

	gmtime_r(&t, &tm);
	printf("%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
}

static json_t *dmarc_rows(const struct dmarc_report *r)
{
	json_t *list = json_array();

	for (const struct dmarc_row *x = r->rows; x; x = x->next)
		json_array_append_new(
			list,
			json_pack("{s:o,s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}",
				  "source_ip", json_span(x->source_ip), "count",
				  (json_int_t)x->count, "disposition", json_span(x->disposition),
				  "dkim", json_span(x->dkim), "spf", json_span(x->spf), "reason",
				  json_span(x->reason), "header_from", json_span(x->header_from),
				  "envelope_from", json_span(x->envelope_from), "dkim_domain",
				  json_span(x->dkim_domain), "dkim_selector",
				  json_span(x->dkim_selector), "dkim_result",
				  json_span(x->dkim_result), "spf_domain", json_span(x->spf_domain),
				  "spf_result", json_span(x->spf_result)));
	return list;
}

static void dmarc_json(const struct reports *j, const struct dmarc_report *r)
{
	_cleanup_(json_decrefp) json_t *row = json_pack(
		"{s:s,s:o,s:o,s:o,s:o,s:I,s:I,s:o,s:b,s:I,s:I,s:o}", "file", j->path, "org_name",
		json_span(r->org_name), "email", json_span(r->email), "report_id",
		json_span(r->report_id), "domain", json_span(r->domain), "begin",
		(json_int_t)r->begin, "end", (json_int_t)r->end, "policy", json_span(r->p),
		"mended", (int)r->mended, "messages", (json_int_t)r->messages, "passed",
		(json_int_t)r->passed, "records", dmarc_rows(r));

	put_line(row);
}

static int show_dmarc(struct reports *j, span text, struct arena *mem, struct err_info *info)
{
	struct dmarc_report r;
	int e = dmarc_report_parse(text, mem, &r, info);

	if (e < 0)
		return e;
	j->good += r.passed;
	j->bad += r.messages - r.passed;
	if (j->c->json) {
		dmarc_json(j, &r);
		return 0;
	}
	put(r.domain, 0);
	printf(", seen by ");
	put(r.org_name.n ? r.org_name : r.email.n ? r.email : SPAN("somebody"), 0);
	printf(" from ");
	put_day(r.begin);
	printf(" to ");
	put_day(r.end);
	printf(" (policy %.*s): %llu messages, %llu authentic\n", SPAN_FMT(r.p),
	       (unsigned long long)r.messages, (unsigned long long)r.passed);
	for (const struct dmarc_row *x = r.rows; x; x = x->next) {
		printf("  %8llu  ", (unsigned long long)x->count);
		put(x->source_ip, 40);
		printf("dkim ");
		put(x->dkim, 9);
		printf("spf ");
		put(x->spf, 9);
		put(x->disposition, 11);
		put(x->header_from, 0);
		printf("\n");
	}
	return 0;
}

static json_t *tls_rows(const struct tls_report *r)
{
	json_t *list = json_array();

	for (const struct tls_policy *p = r->policies; p; p = p->next) {
		json_t *failures = json_array();

		for (const struct tls_failure *f = p->failures; f; f = f->next)
			json_array_append_new(failures,
					      json_pack("{s:o,s:I,s:o,s:o,s:o,s:o}", "result",
							json_span(f->result_type), "count",
							(json_int_t)f->count, "sending_ip",
							json_span(f->sending_ip), "receiving_host",
							json_span(f->receiving_host),
							"receiving_ip", json_span(f->receiving_ip),
							"reason", json_span(f->reason)));
		json_array_append_new(list,
				      json_pack("{s:o,s:o,s:I,s:I,s:o}", "type", json_span(p->type),
						"domain", json_span(p->domain), "succeeded",
						(json_int_t)p->succeeded, "failed",
						(json_int_t)p->failed, "failures", failures));
	}
	return list;
}

static int show_tls(struct reports *j, span text, struct arena *mem, struct err_info *info)
{
	struct tls_report r;
	int e = tls_report_parse(text, mem, &r, info);

	if (e < 0)
		return e;
	j->good += r.succeeded;
	j->bad += r.failed;
	if (j->c->json) {
		_cleanup_(json_decrefp) json_t *row = json_pack(
			"{s:s,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:o}", "file", j->path, "org_name",
			json_span(r.org_name), "contact", json_span(r.contact), "report_id",
			json_span(r.report_id), "begin", json_span(r.begin), "end",
			json_span(r.end), "succeeded", (json_int_t)r.succeeded, "failed",
			(json_int_t)r.failed, "policies", tls_rows(&r));

		put_line(row);
		return 0;
	}
	put(r.org_name, 0);
	printf(", %.*s to %.*s: %llu sessions, %llu failed\n", (int)MIN(r.begin.n, (size_t)10),
	       r.begin.p, (int)MIN(r.end.n, (size_t)10), r.end.p,
	       (unsigned long long)(r.succeeded + r.failed), (unsigned long long)r.failed);
	for (const struct tls_policy *p = r.policies; p; p = p->next) {
		printf("  ");
		put(p->domain, 32);
		put(p->type, 16);
		printf("%llu failed of %llu\n", (unsigned long long)p->failed,
		       (unsigned long long)(p->failed + p->succeeded));
		for (const struct tls_failure *f = p->failures; f; f = f->next) {
			printf("  %8llu  ", (unsigned long long)f->count);
			put(f->result_type, 28);
			put(f->receiving_host, 0);
			printf("\n");
		}
	}
	return 0;
}

/* ------------------------------------------------------------------ commands */

/* All files are read; one that is none makes the exit code, not the end. */
static int run(struct reports *j, const char *what)
{
	const json_t *files = json_object_get(j->c->args, "files"), *f;
	size_t i;

	json_array_foreach(files, i, f)
	{
		struct err_info info = { 0 };

		j->path = json_string_value(f);
		if (take_file(j, &info) < 0)
			j->code = cli_error(EX_DATAERR, "%s: %s", j->path, info.text);
	}
	if (!j->c->json && json_array_size(files) > 1)
		printf("%llu reports, %llu %s, %llu of them failed\n", j->reports, j->good + j->bad,
		       what, j->bad);
	return j->code;
}

int cli_report_dmarc(struct cli *c)
{
	struct reports j = { .c = c, .show = show_dmarc, .first = '<' };

	return run(&j, "messages");
}

int cli_report_tlsrpt(struct cli *c)
{
	struct reports j = { .c = c, .show = show_tls, .first = '{' };

	return run(&j, "sessions");
}
