/* Commands that need no running server, and those that ask for a password first. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "base/id.h"
#include "base/log.h"
#include "role/role.h"

#define PASSWORD_MAX 1024
#define GENERATED    20 /* characters of a made-up password: 115 bits */

/* ------------------------------------------------------------------ configuration */

static int load(const struct cli *c, struct conf **ret)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT);
	struct err_info info = { 0 };
	int e = conf_load(c->config, ret, &text, &info);

	if (e == ERR_NOENT)
		return cli_error(EX_CONFIG,
				 "%s does not exist; postrider setup HOSTNAME makes it, --config "
				 "names another",
				 c->config);
	return e < 0 ? cli_error(EX_CONFIG, "%s", info.text) : 0;
}

/* A file that the configuration names; 0 or EX_CONFIG. */
static int check_file(const struct cli *c, const char *option, span path)
{
	_cleanup_(freep) char *p = span_dup(path);

	if (!path.n || access(p, R_OK) == 0)
		return 0;
	/* Whoever checks may have less rights than the server will have. */
	if (errno == EACCES && geteuid() != 0) {
		fprintf(stderr, "postrider: %s: not checked, you may not read it\n", p);
		return 0;
	}
	return cli_error(EX_CONFIG, "%s: %s: %s: %s", c->config, option, p, strerror(errno));
}

static int check_files(const struct cli *c, const struct conf *conf)
{
	int code = check_file(c, "dns.anchor", conf->dns_anchor_file);

	code |= check_file(c, "tls.client_ca", conf->client_ca_file);
	for (size_t i = 0; i < conf->n_oauth; i++) {
		code |= check_file(c, "auth.oauth: jwks_file", conf->oauth[i].jwks_file);
		code |= check_file(c, "auth.oauth: secret_file", conf->oauth[i].secret_file);
	}
	for (size_t i = 0; i < conf->n_relay_hosts; i++)
		code |= check_file(c, "relay.hosts: password_file",
				   conf->relay_hosts[i].password_file);
	for (size_t i = 0; i < conf->n_certs; i++) {
		code |= check_file(c, "tls.certificates: chain", conf->certs[i].chain_file);
		code |= check_file(c, "tls.certificates: key", conf->certs[i].key_file);
	}
	/* Without trust anchors mail still goes out, over TLS that nobody verified. */
	if (check_file(c, "tls.ca", conf->ca_file) != 0)
		fputs("postrider: no other server's certificate can be verified without it\n",
		      stderr);
	return code;
}

int cli_config_check(struct cli *c)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	int code = load(c, &conf);

	if (code == 0)
		code = check_files(c, conf);
	if (code == 0)
		printf(c->json ? "{\"ok\":true}\n" : "%s is right\n", c->config);
	return code;
}

int cli_config_show(struct cli *c)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024 * 1024);
	int code = load(c, &conf);

	if (code)
		return code;
	if (c->json)
		conf_show_json(conf, &b);
	else
		conf_show(conf, &b);
	fwrite(b.p, 1, b.n, stdout);
	return 0;
}

int cli_config_manual(struct cli *c)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024 * 1024);

	(void)c;
	conf_manual(&b);
	fwrite(b.p, 1, b.n, stdout);
	return 0;
}

int cli_serve(struct cli *c)
{
	struct parent_options o = { .conf_path = c->config,
				    .single = cli_flag(c, "single"),
				    .ready_fd = -1 };
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	const char *fd = getenv("POSTRIDER_READY_FD");
	_cleanup_(freep) char *missing = NULL;
	int code = load(c, &conf);

	if (code)
		return code;
	missing = geteuid() == 0 ? setup_missing_user(conf) : NULL;
	if (missing)
		return cli_error(EX_NOUSER,
				 "there is no user %s; postrider setup HOSTNAME makes the users of "
				 "the server's processes (server.user.* name others)",
				 missing);
	if (fd && *fd)
		o.ready_fd = atoi(fd);
	log_setup("parent", LOG_INFO, LOG_LOGFMT, 2);
	return role_parent(&o);
}

/* ------------------------------------------------------------------ passwords */

enum line { LINE_OK, LINE_EMPTY, LINE_TOO_LONG };

static enum line read_line(char *to, size_t size)
{
	size_t n;

	if (!fgets(to, (int)size, stdin))
		return LINE_EMPTY;
	n = strcspn(to, "\r\n");
	if (!to[n] && !feof(stdin))
		return LINE_TOO_LONG;
	to[n] = 0;
	return n ? LINE_OK : LINE_EMPTY;
}

static enum line ask(const char *prompt, char *to, size_t size)
{
	struct termios old, quiet;
	enum line got;

	if (tcgetattr(0, &old) != 0)
		return LINE_EMPTY;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fputs(prompt, stderr);
	tcsetattr(0, TCSAFLUSH, &quiet);
	got = read_line(to, size);
	tcsetattr(0, TCSAFLUSH, &old);
	fputc('\n', stderr);
	return got;
}

static void make_up(struct cli *c, char *to)
{
	static const char alphabet[] = "abcdefghjkmnpqrstuvwxyz23456789ABCDEFGHJKMNPQRSTUVWXYZ";

	for (int i = 0; i < GENERATED; i++)
		to[i] = alphabet[random_below(sizeof alphabet - 1)];
	to[GENERATED] = 0;
	c->made_up = xstrdup(to);
}

/* From standard input, from a terminal, or made up and shown once; 0 or an exit code. */
static int choose_password(struct cli *c, char *one, char *two)
{
	bool from_input = cli_flag(c, "password_stdin"), terminal = isatty(0);
	enum line got = LINE_EMPTY;

	if (from_input)
		got = read_line(one, PASSWORD_MAX);
	else if (terminal)
		got = ask("Password (empty makes one up): ", one, PASSWORD_MAX);
	if (got == LINE_TOO_LONG)
		return cli_error(EX_DATAERR, "a password has at most %d bytes", PASSWORD_MAX - 2);
	if (got == LINE_EMPTY && from_input)
		return cli_error(EX_NOINPUT, "no password came on standard input");
	if (got == LINE_EMPTY)
		make_up(c, one);
	else if (!from_input &&
		 (ask("Again: ", two, PASSWORD_MAX) != LINE_OK || strcmp(one, two) != 0))
		return cli_error(EX_DATAERR, "the two are not the same; nothing was changed");
	return 0;
}

int cli_account_password(struct cli *c)
{
	char one[PASSWORD_MAX], two[PASSWORD_MAX];
	int code = choose_password(c, one, two);

	if (code == 0)
		json_object_set_new(c->args, "password", json_span(span_str(one)));
	explicit_bzero(one, sizeof one);
	explicit_bzero(two, sizeof two);
	json_object_del(c->args, "password_stdin");
	if (code == 0)
		code = cli_run_remote(c);
	/* Shown when it is in force: a password of an account that was refused is of no use. */
	if (code == 0 && c->made_up && !c->json)
		printf("password: %s\n", c->made_up);
	return code;
}
