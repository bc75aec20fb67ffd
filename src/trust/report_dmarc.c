#include "trust/report.h"

#include <string.h>

#include "format/xml.h"
#include "trust/ascii.h"

struct reading {
	struct arena *mem;
	struct dmarc_report *report;
	struct dmarc_row *row, **tail;
	bool too_many;
};

enum kind { TEXT, WORD, COUNT };

/* Where a value stands and where it goes. */
struct place {
	const char *path;
	enum kind kind;
	size_t offset;
};
#define IN_REPORT(path, kind, field)                                         \
	{                                                                    \
		"feedback/" path, kind, offsetof(struct dmarc_report, field) \
	}
#define IN_ROW(path, kind, field)                                                \
	{                                                                        \
		"feedback/record/" path, kind, offsetof(struct dmarc_row, field) \
	}

static const struct place report_places[] = {
	IN_REPORT("report_metadata/org_name", TEXT, org_name),
	IN_REPORT("report_metadata/email", TEXT, email),
	IN_REPORT("report_metadata/report_id", TEXT, report_id),
	IN_REPORT("report_metadata/date_range/begin", COUNT, begin),
	IN_REPORT("report_metadata/date_range/end", COUNT, end),
	IN_REPORT("policy_published/domain", WORD, domain),
	IN_REPORT("policy_published/p", WORD, p),
	IN_REPORT("policy_published/sp", WORD, sp),
	IN_REPORT("policy_published/np", WORD, np),
	IN_REPORT("policy_published/adkim", WORD, adkim),
	IN_REPORT("policy_published/aspf", WORD, aspf),
	IN_REPORT("policy_published/testing", WORD, testing),
};
static const struct place row_places[] = {
	IN_ROW("row/source_ip", TEXT, source_ip),
	IN_ROW("row/count", COUNT, count),
	IN_ROW("row/policy_evaluated/disposition", WORD, disposition),
	IN_ROW("row/policy_evaluated/dkim", WORD, dkim),
	IN_ROW("row/policy_evaluated/spf", WORD, spf),
	IN_ROW("row/policy_evaluated/reason/type", WORD, reason),
	IN_ROW("identifiers/header_from", WORD, header_from),
	IN_ROW("identifiers/envelope_from", WORD, envelope_from),
	IN_ROW("identities/header_from", WORD, header_from), /* a draft of 2012 */
	IN_ROW("auth_results/dkim/domain", WORD, dkim_domain),
	IN_ROW("auth_results/dkim/selector", TEXT, dkim_selector),
	IN_ROW("auth_results/dkim/result", WORD, dkim_result),
	IN_ROW("auth_results/spf/domain", WORD, spf_domain),
	IN_ROW("auth_results/spf/result", WORD, spf_result),
};

/* The first value of a kind counts: a row has many signatures. */
static void put(struct arena *mem, void *to, const struct place *p, span text)
{
	span *s = (span *)((char *)to + p->offset);
	uint64_t *n = (uint64_t *)((char *)to + p->offset);

	if (p->kind == COUNT) {
		span digits = span_sub(text, 0, MIN(span_find(text, '.'), text.n));

		(void)span_u64(digits, INT64_MAX, n);
	} else if (!s->n) {
		*s = p->kind == WORD ? ascii_lower(text, mem) : arena_span(mem, text);
	}
}

static void on_open(void *arg, span path)
{
	struct reading *r = arg;

	if (!span_eq_str(path, "feedback/record"))
		return;
	r->too_many |= r->report->n_rows == REPORT_ROWS_MAX;
	if (r->too_many)
		return;
	r->row = arena_new(r->mem, struct dmarc_row);
	*r->tail = r->row;
	r->tail = &r->row->next;
	r->report->n_rows++;
}

static void on_close(void *arg, span path, span text)
{
	struct reading *r = arg;

	for (size_t i = 0; i < ARRAY_LEN(report_places); i++)
		if (span_eq_str(path, report_places[i].path))
			put(r->mem, r->report, &report_places[i], text);
	for (size_t i = 0; r->row && i < ARRAY_LEN(row_places); i++)
		if (span_eq_str(path, row_places[i].path))
			put(r->mem, r->row, &row_places[i], text);
}

static int read_once(span xml, struct arena *mem, struct dmarc_report *ret, size_t *ret_line)
{
	static const struct xml_handler handler = { on_open, on_close };
	struct reading r = { .mem = mem, .report = ret, .tail = &ret->rows };
	int e;

	*ret = (struct dmarc_report){ 0 };
	e = xml_read(xml, &handler, &r, ret_line);
	return e == 0 && r.too_many ? ERR_TOOBIG : e;
}

static void sum(struct dmarc_report *r)
{
	for (const struct dmarc_row *row = r->rows; row; row = row->next) {
		r->messages += row->count;
		if (span_eq_str(row->dkim, "pass") || span_eq_str(row->spf, "pass"))
			r->passed += row->count;
	}
}

/* Some put a schema's head around it, which they do not close. */
static span feedback_of(span xml)
{
	size_t start = span_find_span(xml, SPAN("<feedback")), end;

	if (start == SPAN_NPOS)
		return xml;
	xml = span_from(xml, start);
	end = span_find_span(xml, SPAN("</feedback>"));
	return end == SPAN_NPOS ? xml : span_sub(xml, 0, end + strlen("</feedback>"));
}

int dmarc_report_parse(span xml, struct arena *mem, struct dmarc_report *ret, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf mended = BUF_INIT(6 * xml.n + 16);
	size_t line = 0;
	int e = read_once(xml, mem, ret, &line);

	if (e == ERR_SYNTAX && xml_mend(feedback_of(xml), &mended) == 0) {
		e = read_once(buf_span(&mended), mem, ret, &line);
		ret->mended = true;
	}
	if (e == ERR_SYNTAX)
		return err_set(info, e, "line %zu: not well-formed XML", line);
	if (e < 0)
		return err_set(info, e, "line %zu: the report is too large or too deep", line);
	if (!ret->domain.n && !ret->n_rows)
		return err_set(info, ERR_SYNTAX, "not a DMARC report");
	sum(ret);
	return 0;
}
