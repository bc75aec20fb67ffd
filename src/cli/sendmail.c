/* sendmail(1), mailq(1) and newaliases(1): what programs of this machine have called for forty years.
 *
 * There is no setuid, no setgid and no spool: the message goes over a socket that everybody may open,
 * and the server knows by SO_PEERCRED who that is.  Exit 0 means that the message is on disk. */
#include "cli/cli_int.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "cli/sendmail_int.h"
#include "format/address.h"
#include "sys/file.h"

#define MESSAGE_MAX (1024ull * 1024 * 1024) /* the server's own limit decides */
#define MAILNAME    "/etc/mailname"

enum mode { DELIVER, SMTP, QUEUE, ALIASES, FLUSH, VERIFY };

/* -b and its argument. */
static const struct {
	char letter;
	enum mode mode;
} modes[] = { { 'm', DELIVER }, { 's', SMTP }, { 'p', QUEUE }, { 'i', ALIASES }, { 'v', VERIFY } };

/* Options with an argument that say nothing to us stand here so that it is not taken for an address.
 */
#define OPTIONS "A:B:C:F:GIL:N:O:R:UV:X:b:d:e:f:h:imno:p:q::r:tvx"

static bool take_mode(const char *text, enum mode *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(modes); i++)
		if (text[0] == modes[i].letter && !text[1]) {
			*ret = modes[i].mode;
			return true;
		}
	return false;
}

/* These go into a command as they are. */
static bool is_word(const char *s)
{
	return !s || (*s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,") ==
				    strlen(s));
}

static int take_options(struct sendmail *m, int argc, char **argv, enum mode *mode)
{
	int o;

	opterr = 0;
	while ((o = getopt(argc, argv, OPTIONS)) != -1) {
		switch (o) {
		case 'C':
			m->config = optarg;
			break;
		case 'F':
			m->full_name = optarg;
			break;
		case 'N':
			m->notify = optarg;
			break;
		case 'R':
			m->ret = optarg;
			break;
		case 'V':
			m->envid = optarg;
			break;
		case 'b':
			if (!take_mode(optarg, mode))
				return cli_error(EX_USAGE,
						 "-b%s: this is not a server; see postrider(1)",
						 optarg);
			break;
		case 'f':
		case 'r':
			m->from = optarg;
			break;
		case 'i':
			m->dot_is_text = true;
			break;
		case 'o': /* -oi is -i; the others change how Sendmail itself works */
			m->dot_is_text |= strcmp(optarg, "i") == 0;
			break;
		case 'q':
			*mode = FLUSH;
			break;
		case 't':
			m->read_rcpts = true;
			break;
		case '?':
			return cli_error(EX_USAGE, "-%c: unknown, or its argument is missing",
					 optopt);
		}
	}
	if (!is_word(m->notify) || !is_word(m->ret))
		return cli_error(EX_USAGE, "-N is never or a list of success, failure and delay; "
					   "-R is full or hdrs");
	return 0;
}

/* ------------------------------------------------------------------ who and where */

static void read_settings(struct sendmail *m)
{
	_cleanup_(conf_unrefp) struct conf *conf = NULL;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT), name = BUF_INIT(256);
	struct err_info info = { 0 };
	char host[256] = "localhost";
	span line;

	m->socket = SPAN(CLI_DATA "/" CLI_SUBMIT_SOCKET);
	if (conf_load(m->config, &conf, &text, &info) == 0) {
		m->domain = arena_span(&m->mem, conf->hostname);
		m->socket = span_str(
			arena_printf(&m->mem, "%.*s/" CLI_SUBMIT_SOCKET, SPAN_FMT(conf->data_dir)));
	}
	if (file_read(MAILNAME, 255, &name) == 0) {
		line = buf_span(&name);
		line = span_trim(span_cut(&line, '\n'));
		if (domain_valid(line, true))
			m->domain = arena_span(&m->mem, line);
	}
	if (!m->domain.n) {
		gethostname(host, sizeof host - 1);
		m->domain = span_str(arena_printf(&m->mem, "%s", host));
	}
}

static int qualified(struct sendmail *m, span text, span *ret)
{
	struct address a;

	text = span_trim(text);
	if (text.n >= 2 && text.p[0] == '<' && text.p[text.n - 1] == '>')
		text = span_sub(text, 1, text.n - 2);
	if (span_find(text, '@') == SPAN_NPOS)
		text = span_str(
			arena_printf(&m->mem, "%.*s@%.*s", SPAN_FMT(text), SPAN_FMT(m->domain)));
	if (address_parse(text, ADDRESS_ALLOW_UTF8, &m->mem, &a) != ADDRESS_OK)
		return ERR_SYNTAX;
	*ret = address_text(&a, &m->mem);
	return 0;
}

int sendmail_rcpt_add(struct sendmail *m, span text)
{
	span one;
	int e = qualified(m, text, &one);

	if (e < 0)
		return e;
	for (size_t i = 0; i < m->n_rcpts; i++)
		if (span_eq(m->rcpts[i], one))
			return 0;
	if (m->n_rcpts == SENDMAIL_RCPTS_MAX)
		return ERR_TOOBIG;
	if (!m->rcpts)
		m->rcpts = arena_array(&m->mem, span, SENDMAIL_RCPTS_MAX);
	m->rcpts[m->n_rcpts++] = one;
	return 0;
}

/* *RET_SENDER: the reverse-path; *RET_FROM: for a From field; *RET_NAME: the full name. */
static int find_sender(struct sendmail *m, span *ret_sender, span *ret_from, span *ret_name)
{
	struct passwd *pw = getpwuid(getuid());
	span user = span_str(pw ? pw->pw_name : "nobody"), gecos = span_str(pw ? pw->pw_gecos : "");

	*ret_name = span_str(m->full_name);
	if (!m->full_name)
		*ret_name = arena_span(&m->mem, span_cut(&gecos, ','));
	if (qualified(m, user, ret_from) < 0)
		return cli_error(EX_CONFIG, "%.*s@%.*s is not an address", SPAN_FMT(user),
				 SPAN_FMT(m->domain));
	*ret_sender = *ret_from;
	if (!m->from)
		return 0;
	if (!*m->from || strcmp(m->from, "<>") == 0) {
		*ret_sender = SPAN_NULL;
		return 0;
	}
	if (qualified(m, span_str(m->from), ret_sender) < 0)
		return cli_error(EX_USAGE, "-f %s: not an address", m->from);
	*ret_from = *ret_sender;
	return 0;
}

/* ------------------------------------------------------------------ modes */

static int read_input(struct buf *b)
{
	size_t n;

	do {
		char *to = buf_reserve(b, 65536);

		if (!to)
			return cli_error(EX_DATAERR, "the message is too large");
		n = fread(to, 1, 65536, stdin);
		buf_added(b, n);
	} while (n);
	return ferror(stdin) ? cli_error(EX_IOERR, "standard input cannot be read") : 0;
}

static int deliver(struct sendmail *m, char **addresses)
{
	_cleanup_(buf_donep) struct buf typed = BUF_INIT(MESSAGE_MAX), message = BUF_INIT(0);
	span sender, from, name, why = SPAN_NULL;
	int code = find_sender(m, &sender, &from, &name), e;

	for (; *addresses && code == 0; addresses++)
		if (sendmail_rcpt_add(m, span_str(*addresses)) < 0)
			code = cli_error(EX_USAGE, "%s: not an address", *addresses);
	if (code == 0)
		code = read_input(&typed);
	if (code)
		return code;
	buf_init(&message, 2 * typed.n + 4096);
	e = sendmail_message(m, buf_span(&typed), from, name, &message, &why);
	if (e == ERR_SYNTAX)
		return cli_error(EX_DATAERR, "%.*s: not an address", SPAN_FMT(why));
	if (e < 0)
		return cli_error(EX_DATAERR, "the message is too large");
	if (!m->n_rcpts)
		return cli_error(EX_USAGE, m->read_rcpts
						   ? "no address in To, Cc or Bcc"
						   : "name a recipient, or read them from the "
						     "message with -t");
	return sendmail_submit(m, sender, buf_span(&message));
}

/* What the command line does under another name. */
static int as_command(const struct sendmail *m, const char *const *words)
{
	char *argv[8] = { (char *)"postrider", (char *)"--config", (char *)m->config };
	int argc = 3;

	for (; *words; words++)
		argv[argc++] = (char *)*words;
	return cli_main(argc, argv);
}

static int run(struct sendmail *m, enum mode mode, char **addresses)
{
	switch (mode) {
	case SMTP:
		return sendmail_pipe(m);
	case QUEUE:
		return as_command(m, (const char *const[]){ "mailq", NULL });
	case ALIASES:
		return as_command(m,
				  (const char *const[]){ "alias", "import", "/etc/aliases", NULL });
	case FLUSH:
		return as_command(m, (const char *const[]){ "queue", "retry", "--all", NULL });
	case VERIFY:
		if (!*addresses)
			return cli_error(EX_USAGE, "-bv wants an address");
		return as_command(m, (const char *const[]){ "explain", "rcpt", *addresses, NULL });
	case DELIVER:
		break;
	}
	return deliver(m, addresses);
}

/* What the names stand for. */
static const struct {
	const char *name;
	enum mode mode;
} names[] = { { "sendmail", DELIVER }, { "mailq", QUEUE }, { "newaliases", ALIASES } };

static bool mode_of_name(const char *argv0, enum mode *ret)
{
	const char *slash = strrchr(argv0, '/'), *name = slash ? slash + 1 : argv0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i].name) == 0) {
			*ret = names[i].mode;
			return true;
		}
	return false;
}

bool sendmail_is_name(const char *argv0)
{
	enum mode ignored;

	return mode_of_name(argv0, &ignored);
}

int sendmail_main(int argc, char **argv)
{
	const char *env = getenv("POSTRIDER_CONFIG");
	struct sendmail m = { .config = env && *env ? env : CLI_CONFIG };
	enum mode mode = DELIVER;
	int code;

	mode_of_name(argv[0], &mode);

	arena_init(&m.mem);
	code = take_options(&m, argc, argv, &mode);
	if (code == 0) {
		read_settings(&m);
		code = run(&m, mode, argv + optind);
	}
	arena_done(&m.mem);
	return code;
}
