/* The command line: global options, the command's row, its arguments. */
#include "cli/cli_int.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

int cli_error(int code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("postrider: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

const char *cli_arg(const struct cli *c, const char *name)
{
	return json_string_value(json_object_get(c->args, name));
}

bool cli_flag(const struct cli *c, const char *name)
{
	return json_is_true(json_object_get(c->args, name));
}

/* ------------------------------------------------------------------ finding the command */

/* The row whose words begin ARGV; *RET_USED words. */
static const struct cli_command *find_command(int argc, char **argv, int *ret_used)
{
	for (*ret_used = MIN(argc, 3); *ret_used; --*ret_used) {
		char words[128];
		int n = 0;

		for (int i = 0; i < *ret_used && n < (int)sizeof words; i++)
			n += snprintf(words + n, sizeof words - (size_t)n, i ? " %s" : "%s",
				      argv[i]);
		for (const struct cli_command *c = cli_commands; c->name; c++)
			if (strcmp(c->name, words) == 0)
				return c;
	}
	return NULL;
}

static int no_command(int argc, char **argv)
{
	if (argc > 1 && argv[1][0] != '-')
		cli_error(EX_USAGE, "there is no command \"%s %s\"", argv[0], argv[1]);
	else if (!help_family(stderr, argv[0]))
		return cli_error(EX_USAGE,
				 "there is no command \"%s\"; postrider --help lists them",
				 argv[0]);
	else
		return EX_USAGE;
	help_family(stderr, argv[0]);
	return EX_USAGE;
}

static int help(int argc, char **argv)
{
	const struct cli_command *c;
	int used;

	if (!argc) {
		help_all(stdout);
		return 0;
	}
	c = find_command(argc, argv, &used);
	if (!c)
		return help_family(stdout, argv[0]) ? 0 : no_command(argc, argv);
	help_command(stdout, c);
	puts(c->help);
	return 0;
}

/* ------------------------------------------------------------------ its arguments */

/* Is NAME among the row's options?  1: without a value, 2: with one. */
static int option_kind(const struct cli_command *c, span name)
{
	span rest = span_str(c->options);

	while (rest.n) {
		span word = span_cut(&rest, ' '), key = span_cut(&word, '=');

		if (span_eq(span_from(key, cli_must(key)), name))
			return word.p ? 2 : 1;
	}
	return 0;
}

/* The complaint, then how the command is used. */
static int wrong(const struct cli *c, const char *fmt, ...) _printf_(2, 3);
static int wrong(const struct cli *c, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	cli_error(EX_USAGE, "%s", text);
	if (c->command)
		help_command(stderr, c->command);
	return EX_USAGE;
}

/* 1: ARG was a global option; 0: it is none; EX_USAGE: it lacks its value. */
static int take_global(struct cli *c, char ***at)
{
	const char *arg = **at, **to = NULL;

	if (strcmp(arg, "--json") == 0)
		c->json = true;
	else if (strcmp(arg, "--dry-run") == 0)
		c->dry_run = true;
	else if (strcmp(arg, "--config") == 0)
		to = &c->config;
	else if (strcmp(arg, "--socket") == 0)
		to = &c->socket;
	else if (strncmp(arg, "--config=", 9) == 0)
		c->config = arg + 9;
	else if (strncmp(arg, "--socket=", 9) == 0)
		c->socket = arg + 9;
	else
		return 0;
	if (!to)
		return 1;
	if (!(*at)[1])
		return wrong(c, "%s needs a value", arg);
	*to = *++*at;
	return 1;
}

/* The option NAME as the server names it; the caller frees. */
static char *key_of(span name)
{
	char *key = span_dup(name);

	for (char *p = key; *p; p++)
		if (*p == '-')
			*p = '_';
	return key;
}

/* "--name value", "--name=value" or "--name" of the command's row; 0 or EX_USAGE. */
static int take_option(struct cli *c, char ***at)
{
	const char *arg = **at;
	span value = span_str(arg + 2), name = span_cut(&value, '=');
	_cleanup_(freep) char *key = key_of(name);
	int kind = option_kind(c->command, name);

	if (kind == 0)
		return wrong(c, "%s is no option of this command", arg);
	if (kind == 1 && value.p)
		return wrong(c, "--%s takes no value", key);
	if (kind == 2 && !value.p) {
		if (!(*at)[1])
			return wrong(c, "%s needs a value", arg);
		value = span_str(*++*at);
	}
	json_object_set_new(c->args, key, kind == 1 ? json_true() : json_span(value));
	return 0;
}

/* The next word of a row's positionals: its key, and whether it may be absent or repeat. */
struct positional {
	span key;
	bool optional, many;
};

static struct positional next_positional(span *left)
{
	struct positional p = { .key = span_cut(left, ' ') };

	if (p.key.n > 3 && span_eq_str(span_from(p.key, p.key.n - 3), "...")) {
		p.many = true;
		p.key.n -= 3;
	} else if (p.key.p[p.key.n - 1] == '?') {
		p.optional = true;
		p.key.n--;
	}
	return p;
}

/* LEFT is what remains of the row's positionals; 0 or EX_USAGE. */
static int take_positional(struct cli *c, const char *arg, span *left)
{
	span before = *left;
	struct positional p;
	_cleanup_(freep) char *key = NULL;
	json_t *list;

	if (!left->n)
		return wrong(c, "\"%s\" is one argument too many", arg);
	p = next_positional(left);
	key = span_dup(p.key);
	if (!p.many)
		return json_object_set_new(c->args, key, json_span(span_str(arg)));
	*left = before; /* the last one takes all that follow */
	list = json_object_get(c->args, key);
	if (!list) {
		list = json_array();
		json_object_set_new(c->args, key, list);
	}
	return json_array_append_new(list, json_span(span_str(arg)));
}

static int need_positionals(const struct cli *c, span left)
{
	while (left.n) {
		struct positional p = next_positional(&left);
		_cleanup_(freep) char *key = span_dup(p.key);

		if (!p.optional && !json_object_get(c->args, key))
			return wrong(c, "the %s is missing", key);
	}
	return 0;
}

static int need_options(const struct cli *c)
{
	span rest = span_str(c->command->options);

	while (rest.n) {
		span word = span_cut(&rest, ' '), name = span_cut(&word, '=');
		_cleanup_(freep) char *key = NULL;

		if (!cli_must(name))
			continue;
		name = span_from(name, 1);
		key = key_of(name);
		if (!json_object_get(c->args, key))
			return wrong(c, "--%.*s is missing", SPAN_FMT(name));
	}
	return 0;
}

static bool is_help(const char *arg)
{
	return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static int run_command(struct cli *c, char **at)
{
	span left = span_str(c->command->arguments);
	bool options = true;
	int e;

	for (; *at; at++) {
		if (options && is_help(*at)) {
			help_command(stdout, c->command);
			puts(c->command->help);
			return 0;
		}
		if (options && strcmp(*at, "--") == 0) {
			options = false;
			continue;
		}
		if (options && strncmp(*at, "--", 2) == 0) {
			e = take_global(c, &at);
			if (e == 0)
				e = take_option(c, &at);
			else if (e == 1)
				e = 0;
		} else {
			e = take_positional(c, *at, &left);
		}
		if (e)
			return e;
	}
	e = need_positionals(c, left);
	if (e == 0)
		e = need_options(c);
	if (e)
		return e;
	if (c->dry_run && !c->command->dry_run)
		return cli_error(EX_USAGE, "%s cannot be tried with --dry-run; nothing was done",
				 c->command->name);
	if (c->dry_run)
		json_object_set_new(c->args, "dry_run", json_true());
	return c->command->run ? c->command->run(c) : cli_run_remote(c);
}

int cli_main(int argc, char **argv)
{
	const char *env = getenv("POSTRIDER_CONFIG");
	struct cli c = { .config = env && *env ? env : CLI_CONFIG };
	char **at = argv + 1;
	int used, left, code;

	for (; *at && (*at)[0] == '-'; at++) {
		if (strcmp(*at, "--version") == 0) {
			puts("postrider " POSTRIDER_VERSION);
			return 0;
		}
		if (is_help(*at))
			return help(0, NULL);
		code = take_global(&c, &at);
		if (code != 1)
			return code ? code
				    : cli_error(EX_USAGE,
						"%s is no option; postrider --help lists them",
						*at);
	}
	left = argc - (int)(at - argv);
	if (!left) {
		help_all(stderr);
		return EX_USAGE;
	}
	if (strcmp(*at, "help") == 0)
		return help(left - 1, at + 1);
	c.command = find_command(left, at, &used);
	if (!c.command)
		return no_command(left, at);
	if (strcmp(c.command->name, "lab") == 0) /* main() knows it as the first word only */
		return cli_error(EX_USAGE, "lab comes first: postrider lab --dir DIR ...");
	c.args = json_object();
	code = run_command(&c, at + used);
	json_decref(c.args);
	free(c.made_up);
	if (fflush(stdout) != 0 && code == 0)
		code = cli_error(EX_IOERR, "cannot write to standard output");
	return code;
}
