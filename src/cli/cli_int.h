/* Inside cli/. */
#pragma once

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "api/client.h"
#include "cli/cli.h"
#include "conf/conf.h"
#include "format/json.h"

#define CLI_CONFIG "/etc/postrider/postrider.yaml"
#define CLI_DATA   "/var/lib/postrider"
#define CLI_SUBMIT_SOCKET "submit.sock" /* in the data directory: for programs of this machine */

/* Global options, and what the command's table row made of the rest. */
struct cli {
	const char *config; /* path */
	const char *socket; /* admin socket, or NULL: from the configuration */
	bool json, dry_run;
	json_t *args;  /* arguments by name: strings, arrays, booleans */
	char *made_up; /* the password this run thought of, or NULL */
	const struct cli_command *command;
};

typedef void cli_render_fn(const struct cli *c, const json_t *row, size_t number);

struct cli_command {
	const char *name;      /* "account add" */
	const char *arguments; /* positionals: "address targets..." ; a trailing "?" makes one
				  optional */
	const char *options;   /* "from=TEXT all !to=TEXT" : with and without a value, needed */
	const char *help;
	int (*run)(struct cli *c); /* NULL: ask the server */
	cli_render_fn *render;	   /* of each result row; NULL: rows are shown with --json only */
	const char *done;	   /* said after success without rows; NULL: nothing */
	bool dry_run;		   /* knows --dry-run; others refuse it */
};
/* Is an option of that table needed?  Then its first character says so. */
static inline bool cli_must(span option)
{
	return span_starts(option, SPAN("!"));
}
extern const struct cli_command cli_commands[]; /* ends with a NULL name */

/* One line on stderr, "postrider: ..."; returns CODE. */
int cli_error(int code, const char *fmt, ...) _printf_(2, 3);
const char *cli_arg(const struct cli *c, const char *name); /* NULL if not given */
bool cli_flag(const struct cli *c, const char *name);

/* --- help.c --- */
void help_all(FILE *to);
void help_command(FILE *to, const struct cli_command *c);
/* The commands that begin with WORD ("domain"); false if there is none. */
bool help_family(FILE *to, const char *word);

/* --- commands that ask the server (remote.c) --- */
/* Asks the server of C; rows go to ROW.  0 or an exit code, with its line on stderr. */
int cli_ask(const struct cli *c, const json_t *request, admin_row_fn *row, void *arg);
int cli_run_remote(struct cli *c);
int cli_account_rm(struct cli *c);

/* --- commands that work by themselves --- */
int cli_setup(struct cli *c);
int cli_serve(struct cli *c);
/* The first of the roles' users that the system does not know (the caller frees), or NULL. */
char *setup_missing_user(const struct conf *conf);
int cli_config_check(struct cli *c);
int cli_config_show(struct cli *c);
int cli_config_manual(struct cli *c);
int cli_account_password(struct cli *c); /* account add, account passwd */

int cli_mailq(struct cli *c);	     /* mailq.c */
int cli_alias_import(struct cli *c); /* aliases.c */

/* --- sender authentication (trust.c) --- */
int cli_spf_check(struct cli *c);
int cli_dkim_verify(struct cli *c);
int cli_dkim_sign(struct cli *c);
int cli_arc_verify(struct cli *c);
int cli_arc_seal(struct cli *c);
int cli_dmarc_check(struct cli *c);
int cli_report_dmarc(struct cli *c); /* report.c */
int cli_report_tlsrpt(struct cli *c);

/* --- renderers (render.c) --- */
cli_render_fn render_domain, render_account, render_check, render_account_added,
	render_account_removed, render_alias, render_queue, render_queue_entry, render_destination, render_trace, render_status,
	render_explain, render_count, render_ban, render_ban_added, render_ban_removed, render_app_password, render_app_password_added, render_dkim_key,
	render_dkim_key_added;
