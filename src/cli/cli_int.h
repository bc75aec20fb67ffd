/* Inside cli/. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "format/json.h"

/* Global options, and what the command's table row made of the rest. */
struct cli {
	const char *config; /* path */
	const char *socket; /* admin socket, or NULL: from the configuration */
	bool json, dry_run, yes;
	json_t *args; /* arguments by name: strings, arrays, booleans */
	const struct cli_command *command;
};

typedef void cli_render_fn(const struct cli *c, const json_t *row, size_t number);

struct cli_command {
	const char *name;      /* "account add" */
	const char *arguments; /* positionals: "address targets..." ; a trailing "?" makes one
				  optional */
	const char *options;   /* "from=TEXT all" : with and without a value */
	const char *help;
	int (*run)(struct cli *c); /* NULL: ask the server */
	cli_render_fn *render;	   /* of each result row; NULL: nothing is shown but success */
};
extern const struct cli_command cli_commands[];

/* One line on stderr, "postrider: ..."; returns CODE. */
int cli_error(int code, const char *fmt, ...) _printf_(2, 3);
const char *cli_arg(const struct cli *c, const char *name); /* NULL if not given */
bool cli_flag(const struct cli *c, const char *name);

/* --- asking the server (client.c) --- */
/* Sends ARGS (borrowed; "command" is set) to SOCKET; each result row goes to ROW.  Returns a
 * sysexits code; for a refusal the server's sentence is printed unless ERROR is given (then it is
 * put there). */
int client_ask(const char *socket, json_t *args, void (*row)(void *arg, const json_t *row),
	       void *arg, struct err_info *error);
/* The admin socket's path by the configuration; NULL and a message if there is none. */
char *client_socket(const struct cli *c);
int cli_run_remote(struct cli *c);

/* --- commands that work by themselves --- */
int cli_setup(struct cli *c);
int cli_serve(struct cli *c);
int cli_config_check(struct cli *c);
int cli_config_show(struct cli *c);
int cli_config_manual(struct cli *c);
int cli_account_add(struct cli *c);
int cli_account_passwd(struct cli *c);

/* --- renderers (render.c) --- */
cli_render_fn render_domain, render_account, render_account_added, render_alias, render_queue,
	render_trace, render_status, render_count, render_time;
