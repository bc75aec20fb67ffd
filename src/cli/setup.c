/* setup: what a machine needs before its first start. */
#include "cli/cli_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "sys/file.h"
#include "sys/spawn.h"

char *setup_missing_user(const struct conf *conf)
{
	const span users[] = { conf->user_core, conf->user_front, conf->user_out, conf->user_keys };

	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		_cleanup_(freep) char *name = span_dup(users[i]);
		uid_t uid;
		gid_t gid;

		if (spawn_find_user(name, &uid, &gid, NULL) < 0)
			return STEAL_PTR(&name);
	}
	return NULL;
}

/* Runs useradd itself, no shell between; 0 or an exit code. */
static int add_user(const char *name)
{
	static const char program[] = "/usr/sbin/useradd";
	const char *argv[] = { "useradd",    "--system", "--user-group", "--no-create-home",
			       "--home-dir", "/",	 "--shell",	 "/usr/sbin/nologin",
			       name,	     NULL };
	char *const env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execve(program, (char *const *)argv, env);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return cli_error(EX_OSERR, "cannot run %s: %s", program, strerror(errno));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return cli_error(EX_CANTCREAT,
				 "%s did not make the user %s; make it yourself, then run setup "
				 "again",
				 program, name);
	return 0;
}

/* The roles' users must exist before serve can hand out rights. */
static int make_users(const struct cli *c, const struct conf *conf)
{
	char *name;
	int code = 0;

	if (cli_flag(c, "no_users") || geteuid() != 0)
		return 0;
	while (code == 0 && (name = setup_missing_user(conf))) {
		if (c->dry_run)
			printf("would make the user %s, and those of the other processes\n", name);
		else if ((code = add_user(name)) == 0)
			printf("made the user %s\n", name);
		free(name);
		if (c->dry_run)
			break;
	}
	return code;
}

/* An earlier setup's file is fine, a different one is not touched. */
static int write_config(const struct cli *c, span text)
{
	_cleanup_(buf_donep) struct buf old = BUF_INIT(CONF_MAX_TEXT), dir = BUF_INIT(4096);
	span path = span_str(c->config);
	size_t slash = span_rfind(path, '/');
	int e;

	if (access(c->config, F_OK) == 0) {
		if (file_read(c->config, CONF_MAX_TEXT, &old) == 0 &&
		    span_eq(buf_span(&old), text)) {
			printf("%s is there already\n", c->config);
			return 0;
		}
		return cli_error(EX_CANTCREAT,
				 "%s exists and says something else; nothing was changed (edit it, "
				 "or write another with --config FILE)",
				 c->config);
	}
	if (c->dry_run) {
		printf("would write %s:\n\n%.*s\n", c->config, SPAN_FMT(text));
		return 0;
	}
	buf_put_span(&dir, slash == SPAN_NPOS ? SPAN_NULL : span_sub(path, 0, slash));
	if (dir.n && access(buf_cstr(&dir), F_OK) != 0) {
		e = file_mkdirs(buf_cstr(&dir));
		if (e < 0)
			return cli_error(EX_CANTCREAT, "cannot make %s: %s%s", buf_cstr(&dir),
					 err_text(e),
					 geteuid() != 0 ? "; try sudo, or --config FILE" : "");
		(void)chmod(buf_cstr(&dir), 0755); /* there is no secret in it */
	}
	e = file_replace(c->config, text, 0644);
	if (e < 0)
		return cli_error(EX_CANTCREAT, "cannot write %s: %s%s", c->config, err_text(e),
				 geteuid() != 0 ? "; try sudo, or --config FILE" : "");
	printf("wrote %s\n", c->config);
	return 0;
}

static int make_data(const struct cli *c, const struct conf *conf)
{
	_cleanup_(freep) char *data = span_dup(conf->data_dir);
	int e;

	if (access(data, F_OK) == 0)
		return 0;
	if (c->dry_run) {
		printf("would make %s\n", data);
		return 0;
	}
	e = file_mkdirs(data);
	if (e < 0)
		return cli_error(EX_CANTCREAT, "cannot make %s: %s", data, err_text(e));
	printf("made %s\n", data); /* serve hands it to the core's user */
	return 0;
}

static void say_next(const struct cli *c, span hostname)
{
	span domain = hostname;

	/* mx.example.org serves example.org, most likely; example.org serves itself. */
	span_cut(&domain, '.');
	if (span_find(domain, '.') == SPAN_NPOS)
		domain = hostname;
	const char *config = strcmp(c->config, CLI_CONFIG) == 0 ? "" : " --config ";
	const char *path = *config ? c->config : "";

	printf("\nNext:\n"
	       "  postrider%s%s serve &\n"
	       "  postrider%s%s domain add %.*s\n"
	       "  postrider%s%s account add you@%.*s\n"
	       "and let the MX record of %.*s name %.*s.\n",
	       config, path, config, path, SPAN_FMT(domain), config, path, SPAN_FMT(domain),
	       SPAN_FMT(domain), SPAN_FMT(hostname));
	if (geteuid() != 0)
		printf("As you are not root, give it ports above 1023 first (listen.smtp and the "
		       "others in %s).\n",
		       c->config);
}

int cli_setup(struct cli *c)
{
	const char *data = cli_arg(c, "data");
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT);
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	struct err_info info = { 0 };
	int code;

	conf_template(&text, span_str(cli_arg(c, "hostname")), span_str(data ? data : CLI_DATA));
	if (conf_parse(buf_span(&text), "setup", &conf, &info) < 0)
		return cli_error(EX_USAGE, "%s", strstr(info.text, "server."));
	if ((code = write_config(c, buf_span(&text))) != 0 || (code = make_users(c, conf)) != 0 ||
	    (code = make_data(c, conf)) != 0)
		return code;
	if (!c->dry_run)
		say_next(c, conf->hostname);
	return 0;
}
