/* The command line: global options, the command's row, its arguments. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define DEFAULT_CONFIG "/etc/postrider/postrider.yaml"

const struct cli_command cli_commands[] = {
	{ "setup", "hostname", "data=DIR user-prefix=NAME",
	  "Write a first configuration and make the data directory.", cli_setup, NULL },
	{ "serve", "", "single",
	  "Run the server (in the foreground; systemd or you keep it running).", cli_serve, NULL },
	{ "config check", "", "", "Check the configuration file.", cli_config_check, NULL },
	{ "config show", "", "", "Show the configuration in force, defaults included.",
	  cli_config_show, NULL },
	{ "config manual", "", "", "Print the reference of all options (roff), for the man page.",
	  cli_config_manual, NULL },
	{ "domain add", "domain", "", "Take mail for a domain.", NULL, NULL },
	{ "domain set", "domain", "from=owned|any|default catch_all=ADDRESS", "Change a domain.",
	  NULL, NULL },
	{ "domain rm", "domain", "", "Stop taking mail for a domain (it must be empty).", NULL,
	  NULL },
	{ "domain list", "", "", "List domains.", NULL, render_domain },
	{ "account add", "address", "password-stdin from=owned|any|default",
	  "Make an account with its mailboxes.", cli_account_add, render_account_added },
	{ "account rm", "address", "", "Remove an account and all its mail.", NULL, NULL },
	{ "account set", "address", "from=owned|any|default", "Change an account.", NULL, NULL },
	{ "account list", "domain?", "", "List accounts with what they hold.", NULL,
	  render_account },
	{ "account passwd", "address", "password-stdin", "Set a password.", cli_account_passwd,
	  NULL },
	{ "alias add", "address targets...", "", "Send mail for an address on to others.", NULL,
	  NULL },
	{ "alias rm", "address", "", "Remove an alias.", NULL, NULL },
	{ "alias list", "domain?", "", "List aliases.", NULL, render_alias },
	{ "queue list", "", "from=ADDRESS to=ADDRESS domain=DOMAIN", "List mail that waits.", NULL,
	  render_queue },
	{ "queue show", "id", "", "Show one waiting message.", NULL, render_queue },
	{ "queue retry", "id?", "from=ADDRESS to=ADDRESS domain=DOMAIN all", "Try again now.", NULL,
	  render_count },
	{ "queue drop", "id?", "from=ADDRESS to=ADDRESS domain=DOMAIN all",
	  "Remove waiting mail without telling anybody.", NULL, render_count },
	{ "trace", "key", "", "Show a message's journey, by id, address or Message-ID.", NULL,
	  render_trace },
	{ "status", "", "", "Show what the server does.", NULL, render_status },
	{ "reload", "", "", "Make the server read its configuration and certificates again.", NULL,
	  NULL },
	{ "stop", "", "", "Make the server finish and end.", NULL, NULL },
	{ "lab", "", "", "Run two servers on loopback to try things (postrider lab --help).", NULL,
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL, NULL },
};

int cli_error(int code, const char *fmt, ...)
{
	va_list ap;

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

static int usage(FILE *to, int code)
{
	fputs("usage: postrider [--config FILE] [--socket PATH] [--json] [--dry-run] COMMAND "
	      "...\n\n",
	      to);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		fprintf(to, "  %-16s %-22s %s\n", c->name, c->arguments, c->help);
	fputs("\nThe configuration is " DEFAULT_CONFIG
	      " unless --config or POSTRIDER_CONFIG says otherwise.\n",
	      to);
	return code;
}

static int usage_of(const struct cli_command *c, int code)
{
	fprintf(stderr, "usage: postrider %s", c->name);
	if (*c->arguments)
		fprintf(stderr, " %s", c->arguments);
	if (*c->options)
		fprintf(stderr, "   options: %s", c->options);
	fprintf(stderr, "\n%s\n", c->help);
	return code;
}

/* The row whose words begin ARGV; *RET_USED words. */
static const struct cli_command *find_command(int argc, char **argv, int *ret_used)
{
	char two[128];

	if (argc >= 2) {
		snprintf(two, sizeof two, "%s %s", argv[0], argv[1]);
		for (const struct cli_command *c = cli_commands; c->name; c++) {
			if (strcmp(c->name, two) == 0) {
				*ret_used = 2;
				return c;
			}
		}
	}
	for (const struct cli_command *c = cli_commands; argc >= 1 && c->name; c++) {
		if (strcmp(c->name, argv[0]) == 0) {
			*ret_used = 1;
			return c;
		}
	}
	return NULL;
}

/* Is NAME among the row's options?  1: without a value, 2: with one. */
static int option_kind(const struct cli_command *c, span name)
{
	span rest = span_str(c->options);

	while (rest.p && rest.n) {
		span word = span_cut(&rest, ' '), key = word;

		span_cut(&key, '=');
		if (span_eq(span_sub(word, 0, span_find(word, '=')), name))
			return span_find(word, '=') == SPAN_NPOS ? 1 : 2;
	}
	return 0;
}

static bool take_global(struct cli *c, const char *arg, char ***at)
{
	if (strcmp(arg, "--json") == 0)
		c->json = true;
	else if (strcmp(arg, "--dry-run") == 0)
		c->dry_run = true;
	else if (strcmp(arg, "--config") == 0 && (*at)[1])
		c->config = *++*at;
	else if (strcmp(arg, "--socket") == 0 && (*at)[1])
		c->socket = *++*at;
	else
		return false;
	return true;
}

/* "--name value", "--name=value" or "--name" of the command's row. */
static bool take_option(struct cli *c, const char *arg, char ***at)
{
	span name = span_str(arg + 2), value = name;
	_cleanup_(freep) char *key = NULL;
	size_t eq = span_find(name, '=');
	int kind;

	if (eq != SPAN_NPOS) {
		value = span_from(name, eq + 1);
		name.n = eq;
	}
	key = span_dup(name);
	kind = option_kind(c->command, name);
	if (kind == 2 && eq == SPAN_NPOS && (*at)[1])
		value = span_str(*++*at);
	else if (kind == 0 || (kind == 1) != (eq == SPAN_NPOS))
		return false;
	json_object_set_new(c->args, key, kind == 1 ? json_true() : json_span(value));
	return true;
}

/* The next positional by the row; LEFT is what remains of its list. */
static bool take_positional(struct cli *c, const char *arg, span *left)
{
	span word = *left;
	bool many;

	if (!left->n)
		return false;
	word = span_sub(word, 0, span_find(word, ' '));
	many = word.n > 3 && span_eq_str(span_from(word, word.n - 3), "...");
	if (!many)
		*left = span_trim(span_from(*left, word.n));
	else
		word.n -= 3;
	if (word.p[word.n - 1] == '?')
		word.n--;
	_cleanup_(freep) char *key = span_dup(word);

	if (many) {
		json_t *list = json_object_get(c->args, key);

		if (!list) {
			list = json_array();
			json_object_set_new(c->args, key, list);
		}
		json_array_append_new(list, json_span(span_str(arg)));
	} else {
		json_object_set_new(c->args, key, json_span(span_str(arg)));
	}
	return true;
}

/* Are positionals missing that are not optional? */
static bool positionals_missing(const struct cli *c, span left)
{
	while (left.n) {
		span word = span_sub(left, 0, span_find(left, ' '));

		left = span_trim(span_from(left, word.n));
		if (word.n > 3 && span_eq_str(span_from(word, word.n - 3), "...")) {
			word.n -= 3;
			_cleanup_(freep) char *key = span_dup(word);
			if (json_array_size(json_object_get(c->args, key)))
				continue;
			return true;
		}
		if (word.p[word.n - 1] != '?')
			return true;
	}
	return false;
}

static int run_command(struct cli *c, char **at)
{
	span left = span_str(c->command->arguments);

	for (; *at; at++) {
		bool ok;

		if (strcmp(*at, "--help") == 0)
			return usage_of(c->command, 0);
		if (strncmp(*at, "--", 2) == 0)
			ok = take_global(c, *at, &at) || take_option(c, *at, &at);
		else
			ok = take_positional(c, *at, &left);
		if (!ok)
			return usage_of(c->command, EX_USAGE);
	}
	if (positionals_missing(c, left))
		return usage_of(c->command, EX_USAGE);
	if (c->dry_run)
		json_object_set_new(c->args, "dry_run", json_true());
	return c->command->run ? c->command->run(c) : cli_run_remote(c);
}

int cli_main(int argc, char **argv)
{
	const char *env = getenv("POSTRIDER_CONFIG");
	struct cli c = { .config = env && *env ? env : DEFAULT_CONFIG };
	char **at = argv + 1;
	int used, code;

	for (; *at && strncmp(*at, "--", 2) == 0; at++) {
		if (strcmp(*at, "--version") == 0) {
			puts("postrider " POSTRIDER_VERSION);
			return 0;
		}
		if (strcmp(*at, "--help") == 0)
			return usage(stdout, 0);
		if (!take_global(&c, *at, &at))
			return usage(stderr, EX_USAGE);
	}
	if (!*at)
		return usage(stderr, EX_USAGE);
	c.command = find_command(argc - (int)(at - argv), at, &used);
	if (!c.command) {
		cli_error(EX_USAGE, "there is no command \"%s\"; postrider --help lists them", *at);
		return EX_USAGE;
	}
	c.args = json_object();
	code = run_command(&c, at + used);
	json_decref(c.args);
	return code;
}
