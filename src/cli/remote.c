/* Commands that ask the running server. */
#include "cli/cli_int.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "api/client.h"

#define ROW_MAX (2u * 1024 * 1024)

/* The admin socket's path by the configuration; 0 or an exit code. */
static int find_socket(const struct cli *c, char **ret)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT), path = BUF_INIT(4096);
	struct err_info info = { 0 };
	int e;

	if (c->socket) {
		*ret = xstrdup(c->socket);
		return 0;
	}
	e = conf_load(c->config, &conf, &text, &info);
	if (e == ERR_NOENT)
		return cli_error(EX_CONFIG,
				 "%s does not exist; postrider setup HOSTNAME makes it, --config "
				 "or --socket name another server",
				 c->config);
	if (e < 0)
		return cli_error(EX_CONFIG, "%s", info.text);
	buf_put_span(&path, conf->data_dir);
	buf_put_str(&path, "/admin.sock");
	*ret = xstrdup(buf_cstr(&path));
	return 0;
}

struct shown {
	const struct cli *c;
	size_t rows;
};

static void show_row(void *arg, const json_t *row)
{
	struct shown *s = arg;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(ROW_MAX);

	if (s->c->json) {
		_cleanup_(json_decrefp) json_t *copy = json_copy((json_t *)row);

		if (s->c->made_up)
			json_object_set_new(copy, "password", json_string(s->c->made_up));
		json_put(&b, copy);
		printf("%s\n", buf_cstr(&b));
	} else if (s->c->command->render) {
		s->c->command->render(s->c, row, s->rows);
	}
	s->rows++;
}

/* The thing that the command was about, for "example.org: removed". */
static const char *subject(const struct cli *c)
{
	static const char *const names[] = { "address", "domain", "network" };
	const char *s = NULL;

	for (size_t i = 0; !s && i < ARRAY_LEN(names); i++)
		s = cli_arg(c, names[i]);
	return s;
}

static void say_done(const struct cli *c, const struct shown *s)
{
	if (c->json)
		return;
	if (c->command->done && subject(c))
		printf("%s: %s\n", subject(c), c->command->done);
	else if (c->command->done)
		printf("%s\n", c->command->done);
	else if (!s->rows)
		printf("nothing is there\n");
}

int cli_ask(const struct cli *c, const json_t *request, admin_row_fn *row, void *arg)
{
	_cleanup_(freep) char *socket = NULL;
	struct err_info info = { 0 };
	int code = find_socket(c, &socket), e;

	if (code)
		return code;
	e = admin_ask(socket, request, row, arg, &code, &info);
	if (e < 0)
		return cli_error(code, "%s%s", info.text,
				 e == ERR_NOENT	 ? "; is it running? (postrider serve)"
				 : e == ERR_PERM ? "; try sudo"
						 : "");
	return 0;
}

int cli_run_remote(struct cli *c)
{
	struct shown s = { .c = c };
	int code;

	json_object_set_new(c->args, "command", json_string(c->command->name));
	code = cli_ask(c, c->args, show_row, &s);
	if (code == 0)
		say_done(c, &s);
	return code;
}

/* A slip of the finger should not cost a mailbox. */
int cli_account_rm(struct cli *c)
{
	char answer[16];

	if (!cli_flag(c, "yes") && isatty(0) && isatty(2)) {
		fprintf(stderr, "Remove %s and all its mail? [y/N] ", cli_arg(c, "address"));
		if (!fgets(answer, sizeof answer, stdin) || (answer[0] != 'y' && answer[0] != 'Y'))
			return cli_error(EX_USAGE, "nothing was removed");
	}
	json_object_del(c->args, "yes");
	return cli_run_remote(c);
}
