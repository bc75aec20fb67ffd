/* The table of commands, and what is said about them. */
#include "cli/cli_int.h"

#include <ctype.h>
#include <string.h>

#define FILTER                                                             \
	"from=ADDRESS to=ADDRESS domain=DOMAIN age=OLDER_THAN reply=TEXT " \
	"state=waiting|held|delivering"
#define OFFLINE "zone=FILE time=UNIX"
#define CLIENT	"ip=ADDRESS helo=NAME from=ADDRESS receiver=NAME "
#define SIGNER	"domain=DOMAIN selector=NAME key=FILE headers=LIST time=UNIX"
#define POLICY	"from=owned|any|default"
#define DOMAIN                                                                \
	"catch-all=ADDRESS subaddress=yes|no scram=yes|no alias-of=DOMAIN unknown-to=WAY " \
	"known-only=yes|no"
#define ALIAS "senders=anyone|members|authenticated priority=NUMBER"

const struct cli_command cli_commands[] = {
	{ "setup", "hostname", "data=DIR no-users",
	  "Write a first configuration; as root make the users and the data directory.", cli_setup,
	  .dry_run = true },
	{ "serve", "", "single", "Run the server in the foreground.", cli_serve },
	{ "status", "", "", "Show what the server does.", .render = render_status },
	{ "reload", "", "", "Read the configuration and the certificates again.",
	  .done = "done" },
	{ "stop", "", "", "Let the server finish what is under way, and end.",
	  .done = "the server ends" },
	{ "config check", "", "", "Check the configuration and the files it names.",
	  cli_config_check },
	{ "config show", "", "", "Show the configuration in force, defaults included.",
	  cli_config_show },
	{ "config manual", "", "", "Print the reference of all options, for the manual (roff).",
	  cli_config_manual },
	{ "domain add", "domain", POLICY " " DOMAIN " backup", "Take mail for a domain.",
	  .done = "mail for it is taken" },
	{ "domain set", "domain", POLICY " " DOMAIN " backup=yes|no", "Change a domain.",
	  .done = "changed" },
	{ "domain rm", "domain", "", "Stop taking mail for a domain (it must be empty).",
	  .done = "removed" },
	{ "domain list", "", "", "List domains.", .render = render_domain },
	{ "account add", "address", "password-stdin quota=SIZE " POLICY,
	  "Make an account with its mailboxes.", cli_account_password, render_account_added },
	{ "account set", "address", POLICY " quota=SIZE suspended=yes|no app-only=yes|no", "Change an account.",
	  .done = "changed" },
	{ "account passwd", "address", "password-stdin", "Set a password.", cli_account_password,
	  .done = "password set" },
	{ "account rm", "address", "yes", "Remove an account and all its mail.", cli_account_rm,
	  render_account_removed },
	{ "account list", "domain?", "", "List accounts with what they hold.",
	  .render = render_account },
	{ "account app-password add", "address", "!name=NAME scope=smtp,imap,pop3 expires=TIME",
	  "Make a password for one program of an account; it is shown once.",
	  .render = render_app_password_added },
	{ "account app-password list", "address", "", "List app passwords and when they were used.",
	  .render = render_app_password },
	{ "account app-password rm", "address name", "", "Remove an app password.",
	  .done = "app password removed" },
	{ "account check", "address?", "", "Check that all mail of accounts is there and readable.",
	  .render = render_check },
	{ "alias add", "address targets...", ALIAS, "Send mail for an address on to others.",
	  .done = "added" },
	{ "alias set", "address", "add=ADDRESS remove=ADDRESS " ALIAS, "Change an alias.",
	  .done = "changed" },
	{ "alias import", "file", "domain=DOMAIN",
	  "Make a domain's aliases what an aliases(5) file says; others stay.", cli_alias_import,
	  .dry_run = true },
	{ "alias rm", "address", "", "Remove an alias.", .done = "removed" },
	{ "alias list", "domain?", "", "List aliases.", .render = render_alias },
	{ "queue list", "id?", FILTER " all", "List mail that waits, and why.",
	  .render = render_queue },
	{ "mailq", "", "", "List mail that waits, in the layout that log and status tools know.",
	  cli_mailq },
	{ "queue show", "id", "", "Show one waiting message, what happens next, and why.",
	  .render = render_queue_entry },
	{ "queue destinations", "", "",
	  "Show where mail goes to or waits for: connections, their limit, and what failed last.",
	  .render = render_destination },
	{ "queue retry", "id?", FILTER " all", "Try again now.", .render = render_count,
	  .dry_run = true },
	{ "queue hold", "id?", FILTER " all", "Keep mail from being tried until it is released.",
	  .render = render_count, .dry_run = true },
	{ "queue release", "id?", FILTER " all", "Let held mail go on.", .render = render_count,
	  .dry_run = true },
	{ "queue reroute", "id?",
	  FILTER " all !to-route=smtp:DOMAIN|smtp:[HOST]:PORT|lmtp:[HOST]:PORT|via:NAME",
	  "Send waiting mail for other hosts to another one.", .render = render_count,
	  .dry_run = true },
	{ "queue bounce", "id?", FILTER " all", "Return waiting mail to its senders now.",
	  .render = render_count, .dry_run = true },
	{ "queue drop", "id?", FILTER " all", "Remove waiting mail without telling anybody.",
	  .render = render_count, .dry_run = true },
	{ "explain rcpt", "address", "from=SENDER as=ACCOUNT",
	  "Show what becomes of mail for an address, step by step.", .render = render_explain },
	{ "srs rotate", "", "", "Sign rewritten reverse-paths with a new key.",
	  .done = "a new key signs; bounces to addresses of the one before are still taken" },
	{ "ban list", "", "", "List the networks that are banned, why, and until when.",
	  .render = render_ban },
	{ "ban add", "network", "protocol=smtp|submission|imap|pop3|lmtp for=TIME reason=TEXT",
	  "Turn an address or a network away.", .render = render_ban_added },
	{ "ban rm", "network", "protocol=smtp|submission|imap|pop3|lmtp", "Lift a ban.",
	  .render = render_ban_removed },
	{ "trace", "key", "", "Show a message's journey, by id, address or Message-ID.",
	  .render = render_trace },
	{ "spf check", "", CLIENT OFFLINE, "May this host send for this domain?", cli_spf_check },
	{ "dkim verify", "file", OFFLINE, "Check a message's DKIM signatures.", cli_dkim_verify },
	{ "dkim sign", "file", SIGNER " canon=HEADER/BODY expires=UNIX", "Sign a message.",
	  cli_dkim_sign },
	{ "dkim key new", "domain", "type=rsa|ed25519|both",
	  "Make a key for a domain's signatures, and show the record to publish.",
	  .render = render_dkim_key_added },
	{ "dkim key list", "domain?", "", "List DKIM keys, which of them sign, and their records.",
	  .render = render_dkim_key },
	{ "dkim key use", "domain selector", "force",
	  "Sign with a key whose record is published, in place of the one before.",
	  .done = "its mail is signed with the key" },
	{ "dkim key drop", "domain selector", "force", "Remove a key.", .done = "key removed" },
	{ "arc verify", "file", OFFLINE, "Check a message's chain of seals.", cli_arc_verify },
	{ "arc seal", "file", SIGNER " zone=FILE authserv-id=ID", "Add a seal to a message.",
	  cli_arc_seal },
	{ "dmarc check", "file", CLIENT OFFLINE, "Does the author's domain stand behind a message?",
	  cli_dmarc_check },
	{ "report dmarc", "files...", "", "Show DMARC aggregate reports: XML, gzip, zip, or a mail.",
	  cli_report_dmarc },
	{ "report tlsrpt", "files...", "", "Show TLS reports: JSON, gzip, or a mail.",
	  cli_report_tlsrpt },
	{ "lab", "", "", "Run two servers on loopback to try things (postrider lab --help)." },
	{ NULL },
};

/* "address targets..." as "ADDRESS TARGETS...", "id?" as "[ID]". */
static void put_arguments(struct buf *b, const char *arguments)
{
	span rest = span_str(arguments);

	while (rest.n) {
		span word = span_cut(&rest, ' ');
		bool optional = word.p[word.n - 1] == '?';

		buf_put_str(b, optional ? " [" : " ");
		for (size_t i = 0; i < word.n - optional; i++)
			buf_put_char(b, (char)toupper((unsigned char)word.p[i]));
		if (optional)
			buf_put_char(b, ']');
	}
}

/* "from=ADDRESS all" as " [--from ADDRESS] [--all]". */
static void put_options(struct buf *b, const char *options)
{
	span rest = span_str(options);

	while (rest.n) {
		span word = span_cut(&rest, ' '), key = span_cut(&word, '=');

		bool must = cli_must(key);

		key = span_from(key, must);
		buf_printf(b, must ? " --%.*s%s%.*s" : " [--%.*s%s%.*s]", SPAN_FMT(key),
			   word.p ? " " : "", (int)word.n, word.p ? word.p : "");
	}
}

static void put_row(FILE *to, const struct cli_command *c)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(800);

	buf_put_str(&b, c->name);
	put_arguments(&b, c->arguments);
	fprintf(to, "  %-31s  %s\n", buf_cstr(&b), c->help);
}

void help_command(FILE *to, const struct cli_command *c)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(800);

	put_arguments(&b, c->arguments);
	put_options(&b, c->options);
	if (c->dry_run)
		buf_put_str(&b, " [--dry-run]");
	fprintf(to, "usage: postrider %s%s\n", c->name, buf_cstr(&b));
}

bool help_family(FILE *to, const char *word)
{
	size_t n = strlen(word);
	bool any = false;

	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (strncmp(c->name, word, n) != 0 || c->name[n] != ' ')
			continue;
		if (!any)
			fprintf(to, "usage: postrider %s COMMAND ...\n\n", word);
		any = true;
		put_row(to, c);
	}
	return any;
}

void help_all(FILE *to)
{
	char family[32] = "";

	fputs("usage: postrider [OPTION...] COMMAND ...\n", to);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		size_t n = strcspn(c->name, " ");
		const char *mine = c->name[n] ? c->name : "";

		/* An empty line between families; commands of one word are one family. */
		n = *mine ? n : 0;
		if (c == cli_commands || strlen(family) != n || strncmp(family, mine, n) != 0)
			fputc('\n', to);
		snprintf(family, sizeof family, "%.*s", (int)n, mine);
		put_row(to, c);
	}
	fputs("\n"
	      "  --config FILE   the configuration (" CLI_CONFIG ", or $POSTRIDER_CONFIG)\n"
	      "  --socket PATH   the server's admin socket (admin.sock in its data directory)\n"
	      "  --json          results as lines of JSON\n"
	      "  --dry-run       change nothing, only say what would be done\n"
	      "  --version, --help; postrider help COMMAND tells a command's options\n",
	      to);
}
