/* alias import: an aliases(5) file, as Sendmail and Postfix read it, becomes aliases of a domain. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "sys/file.h"

#define FILE_MAX (16u * 1024 * 1024)

struct import {
	struct cli *c;
	const char *path;
	span domain;
	json_t *present; /* address -> targets, as the server has them */
	unsigned added, changed, same, skipped, line;
	int code; /* the first failure */
};

static void warn(struct import *m, const char *what, span text)
{
	fprintf(stderr, "postrider: %s:%u: %.*s: %s\n", m->path, m->line, SPAN_FMT(text), what);
	m->skipped++;
}

static json_t *address_of(const struct import *m, span name)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024);

	buf_put_span(&b, name);
	if (span_find(name, '@') == SPAN_NPOS)
		buf_printf(&b, "@%.*s", SPAN_FMT(m->domain));
	return json_span(buf_span(&b));
}

/* A double-quoted or plain word up to the next comma; false at the end. */
static bool next_target(span *at, span *ret)
{
	bool quoted = false;
	size_t n = 0;

	if (!at->n)
		return false;
	while (n < at->n && (quoted || at->p[n] != ',')) {
		quoted ^= at->p[n] == '"';
		n++;
	}
	*ret = span_trim(span_sub(*at, 0, n));
	*at = span_from(*at, MIN(n + 1, at->n));
	if (ret->n >= 2 && ret->p[0] == '"' && ret->p[ret->n - 1] == '"')
		*ret = span_sub(*ret, 1, ret->n - 2);
	return true;
}

/* Programs and files are Sieve's or a script's business here, not an alias's. */
static const char *unfit(span target)
{
	if (target.p[0] == '|')
		return "programs are not run for mail";
	if (target.p[0] == '/')
		return "mail is not written to files";
	if (span_istarts(target, SPAN(":include:")))
		return "lists in files are not read; name their members";
	return span_find(target, ' ') == SPAN_NPOS ? NULL : "not an address";
}

static json_t *targets_of(struct import *m, span text)
{
	json_t *list = json_array();
	span target;

	while (next_target(&text, &target)) {
		const char *why = target.n ? unfit(target) : NULL;

		if (why)
			warn(m, why, target);
		else if (target.n)
			json_array_append_new(
				list,
				address_of(m, target.p[0] == '\\' ? span_from(target, 1) : target));
	}
	return list;
}

static int ask(struct import *m, const char *command, json_t *address, json_t *targets)
{
	_cleanup_(json_decrefp) json_t *request = json_pack("{s:s,s:O,s:O}", "command", command,
							    "address", address, "targets", targets);

	return cli_ask(m->c, request, NULL, NULL);
}

static void put_alias(struct import *m, span name, span text)
{
	_cleanup_(json_decrefp) json_t *targets = targets_of(m, text),
				       *address = address_of(m, name);
	const json_t *old = json_object_get(m->present, json_string_value(address));
	int code;

	if (!json_array_size(targets))
		return;
	if (old && json_equal(old, targets)) {
		m->same++;
		return;
	}
	if (old)
		m->changed++;
	else
		m->added++;
	if (m->c->dry_run)
		return;
	code = ask(m, old ? "alias set" : "alias add", address, targets);
	if (!m->code)
		m->code = code;
}

/* One logical line: "name: target, target". */
static void take_entry(struct import *m, span entry)
{
	span head, name;
	size_t colon = 0;
	bool quoted = false;

	while (colon < entry.n && (quoted || entry.p[colon] != ':'))
		quoted ^= entry.p[colon++] == '"';
	if (colon == entry.n) {
		warn(m, "there is no colon", entry);
		return;
	}
	head = span_sub(entry, 0, colon);
	if (next_target(&head, &name) && name.n)
		put_alias(m, name, span_from(entry, colon + 1));
}

static void take_file(struct import *m, span text)
{
	_cleanup_(buf_donep) struct buf entry = BUF_INIT(FILE_MAX);

	while (text.n) {
		span line = span_cut(&text, '\n');
		bool goes_on = line.n && (line.p[0] == ' ' || line.p[0] == '\t');

		if (!goes_on && entry.n) {
			take_entry(m, buf_span(&entry));
			buf_reset(&entry);
		}
		m->line++;
		line = span_trim(line);
		if (!line.n || line.p[0] == '#')
			continue;
		buf_put_span(&entry, line);
		buf_put_char(&entry, ' ');
	}
	if (entry.n)
		take_entry(m, buf_span(&entry));
}

static void note_alias(void *arg, const json_t *row)
{
	struct import *m = arg;

	json_object_set(m->present, json_string_value(json_object_get(row, "address")),
			json_object_get(row, "targets"));
}

static void note_domain(void *arg, const json_t *row)
{
	json_array_append(arg, json_object_get(row, "domain"));
}

/* Without --domain there must be one only. */
static int find_domain(struct import *m, json_t *domains)
{
	_cleanup_(json_decrefp) json_t *request = json_pack("{s:s}", "command", "domain list");
	int code;

	m->domain = span_str(cli_arg(m->c, "domain"));
	if (m->domain.n)
		return 0;
	code = cli_ask(m->c, request, note_domain, domains);
	if (code)
		return code;
	if (json_array_size(domains) != 1)
		return cli_error(EX_USAGE, "whose aliases are they? Name it with --domain");
	m->domain = span_str(json_string_value(json_array_get(domains, 0)));
	return 0;
}

static void say_result(const struct import *m)
{
	if (m->c->json)
		printf("{\"added\":%u,\"changed\":%u,\"same\":%u,\"skipped\":%u}\n", m->added,
		       m->changed, m->same, m->skipped);
	else
		printf("%s%u added, %u changed, %u as they were, %u targets skipped\n",
		       m->c->dry_run ? "would be: " : "", m->added, m->changed, m->same,
		       m->skipped);
}

int cli_alias_import(struct cli *c)
{
	_cleanup_(json_decrefp) json_t *domains = json_array(), *present = json_object(),
				       *request = NULL;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(FILE_MAX);
	struct import m = { .c = c, .path = cli_arg(c, "file"), .present = present };
	int e = file_read(m.path, FILE_MAX, &text), code;

	if (e < 0)
		return cli_error(EX_NOINPUT, "%s: %s", m.path, err_text(e));
	code = find_domain(&m, domains);
	if (code)
		return code;
	request = json_pack("{s:s,s:s%}", "command", "alias list", "domain", m.domain.p,
			    m.domain.n);
	code = cli_ask(c, request, note_alias, &m);
	if (code)
		return code;
	take_file(&m, buf_span(&text));
	say_result(&m);
	return m.code;
}
