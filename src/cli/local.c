/* Commands that need no running server, and those that ask for a password first. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "base/id.h"
#include "base/log.h"
#include "conf/conf.h"
#include "role/role.h"
#include "sys/file.h"
#include "sys/spawn.h"

#define PASSWORD_MAX 1024
#define GENERATED    20 /* characters of a made-up password: 100 bits */

/* ------------------------------------------------------------------ configuration */

static int load(const struct cli *c, struct conf **ret)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT);
	struct err_info info = { 0 };

	if (conf_load(c->config, ret, &text, &info) < 0)
		return cli_error(EX_CONFIG, "%s", info.text);
	return 0;
}

int cli_config_check(struct cli *c)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	int code = load(c, &conf);

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

/* ------------------------------------------------------------------ setup */

/* The roles' users must exist before serve can hand out rights; say how to make them. */
static int check_users(const struct conf *conf)
{
	const span users[] = { conf->user_front, conf->user_core, conf->user_out, conf->user_keys };
	int missing = 0;

	for (size_t i = 0; geteuid() == 0 && i < ARRAY_LEN(users); i++) {
		_cleanup_(freep) char *name = span_dup(users[i]);
		uid_t uid;
		gid_t gid;

		if (spawn_find_user(name, &uid, &gid, NULL) == 0)
			continue;
		if (!missing++)
			printf("\nMake the users of the server's processes:\n");
		printf("  useradd --system --home-dir / --shell /usr/sbin/nologin %s\n", name);
	}
	return missing;
}

int cli_setup(struct cli *c)
{
	const char *host = cli_arg(c, "hostname"), *data = cli_arg(c, "data");
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT), dir = BUF_INIT(4096);
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	struct err_info info = { 0 };
	size_t slash;
	int e;

	conf_template(&text, span_str(host), span_str(data ? data : "/var/lib/postrider"));
	if (conf_parse(buf_span(&text), c->config, &conf, &info) < 0)
		return cli_error(EX_USAGE, "%s", info.text);
	if (c->dry_run) {
		fwrite(text.p, 1, text.n, stdout);
		return 0;
	}
	if (access(c->config, F_OK) == 0)
		return cli_error(EX_CANTCREAT, "%s exists; nothing was changed", c->config);
	slash = span_rfind(span_str(c->config), '/');
	buf_put_span(&dir, span_sub(span_str(c->config), 0, slash == SPAN_NPOS ? 0 : slash));
	if (dir.n && (e = file_mkdirs(buf_cstr(&dir))) < 0)
		return cli_error(EX_CANTCREAT, "cannot make %s: %s", buf_cstr(&dir), err_text(e));
	e = file_replace(c->config, buf_span(&text), 0644);
	if (e < 0)
		return cli_error(EX_CANTCREAT, "cannot write %s: %s", c->config, err_text(e));
	printf("wrote %s\n", c->config);
	check_users(conf);
	printf("\nThen:\n  postrider serve &\n  postrider domain add %s\n  postrider account add "
	       "you@%s\n",
	       strchr(host, '.') ? strchr(host, '.') + 1 : host,
	       strchr(host, '.') ? strchr(host, '.') + 1 : host);
	return 0;
}

int cli_serve(struct cli *c)
{
	struct parent_options o = { .conf_path = c->config,
				    .single = cli_flag(c, "single"),
				    .ready_fd = -1 };
	const char *fd = getenv("POSTRIDER_READY_FD");

	if (fd && *fd)
		o.ready_fd = atoi(fd);
	log_setup("parent", LOG_INFO, LOG_LOGFMT, 2);
	return role_parent(&o);
}

/* ------------------------------------------------------------------ passwords */

static bool read_line(char *to, size_t size)
{
	size_t n;

	if (!fgets(to, (int)size, stdin))
		return false;
	n = strcspn(to, "\r\n");
	to[n] = 0;
	return n > 0;
}

static bool ask(const char *prompt, char *to, size_t size)
{
	struct termios old, quiet;
	bool ok;

	if (tcgetattr(0, &old) != 0)
		return false;
	quiet = old;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	fputs(prompt, stderr);
	tcsetattr(0, TCSAFLUSH, &quiet);
	ok = read_line(to, size);
	tcsetattr(0, TCSAFLUSH, &old);
	fputc('\n', stderr);
	return ok;
}

/* Without a terminal and without --password-stdin a good one is made up and shown once. */
static void make_up(char *to)
{
	static const char alphabet[] = "abcdefghjkmnpqrstuvwxyz23456789ABCDEFGHJKMNPQRSTUVWXYZ";

	for (int i = 0; i < GENERATED; i++)
		to[i] = alphabet[random_below(sizeof alphabet - 1)];
	to[GENERATED] = 0;
}

static int password(struct cli *c)
{
	char one[PASSWORD_MAX], two[PASSWORD_MAX];

	if (cli_flag(c, "password-stdin")) {
		if (!read_line(one, sizeof one))
			return cli_error(EX_NOINPUT, "no password came on standard input");
	} else if (isatty(0)) {
		if (!ask("Password (empty makes one up): ", one, sizeof one)) {
			make_up(one);
			fprintf(stderr, "password: %s\n", one);
		} else if (!ask("Again: ", two, sizeof two) || strcmp(one, two) != 0) {
			return cli_error(EX_DATAERR, "the two are not the same");
		}
	} else {
		make_up(one);
		fprintf(stderr, "password: %s\n", one);
	}
	json_object_set_new(c->args, "password", json_span(span_str(one)));
	explicit_bzero(one, sizeof one);
	explicit_bzero(two, sizeof two);
	return 0;
}

int cli_account_add(struct cli *c)
{
	int code = password(c);

	return code ? code : cli_run_remote(c);
}

int cli_account_passwd(struct cli *c)
{
	return cli_account_add(c);
}
