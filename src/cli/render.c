/* Rows as text for people.  Column widths are fixed so that rows can be shown as they come. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>

/* Prints untrusted text, padded to WIDTH. */
static void put(span s, int width)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);

	buf_put_escaped(&b, s, 1500);
	printf("%-*s", width, buf_cstr(&b));
}

static void size_text(int64_t n, char *ret, size_t size)
{
	static const char *const unit[] = { "B", "K", "M", "G", "T" };
	double v = (double)n;
	unsigned u = 0;

	for (; v >= 1000 && u < 4; u++)
		v /= 1024;
	snprintf(ret, size, u ? "%.1f%s" : "%.0f%s", v, unit[u]);
}

void render_domain(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	if (!number)
		printf("%-32s %-10s %s\n", "DOMAIN", "FROM", "UNKNOWN ADDRESSES");
	put(json_str(row, "domain"), 32);
	printf(" ");
	put(json_str(row, "from"), 10);
	printf(" ");
	span alias_of = json_str(row, "alias_of"), way = json_str(row, "unknown_to");
	if (alias_of.n) {
		printf("as ");
		put(alias_of, 0);
	} else if (way.n) {
		printf("%sgo by ", json_bool(row, "known_only", false) ? "if listed " : "");
		put(way, 0);
	} else {
		put(json_str(row, "catch_all"), 0);
	}
	printf("\n");
}

void render_explain(const struct cli *c, const json_t *row, size_t number)
{
	span step = json_str(row, "step"), kind = json_str(row, "kind");

	(void)c;
	(void)number;
	if (kind.n) {
		printf("=> ");
		put(json_str(row, "address"), 0);
		if (span_eq_str(kind, "local"))
			printf(": into its mailbox here");
		else if (span_eq_str(kind, "remote"))
			printf(": by %.*s, MAIL FROM:<%.*s>", SPAN_FMT(json_str(row, "route")),
			       SPAN_FMT(json_str(row, "reverse_path")));
		else
			printf(": refused, %lld %.*s", (long long)json_int(row, "code", 0),
			       SPAN_FMT(json_str(row, "status")));
		printf("\n");
		return;
	}
	put(step, 18);
	printf(" ");
	put(json_str(row, "address"), 0);
	if (json_str(row, "target").n) {
		printf(" -> ");
		put(json_str(row, "target"), 0);
	}
	printf(": ");
	put(json_str(row, "text"), 0);
	printf("\n");
}

void render_check(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	(void)number;
	put(json_str(row, "address"), 36);
	if (json_bool(row, "sound", false)) {
		printf(" sound\n");
		return;
	}
	printf(" ");
	put(json_str(row, "finding"), 0);
	printf("\n");
}

void render_account(const struct cli *c, const json_t *row, size_t number)
{
	char size[32];

	(void)c;
	if (!number)
		printf("%-36s %9s %9s  %s\n", "ADDRESS", "MESSAGES", "SIZE", "NOTE");
	size_text(json_int(row, "bytes", 0), size, sizeof size);
	put(json_str(row, "address"), 36);
	printf(" %9lld %9s  %s%s\n", (long long)json_int(row, "messages", 0), size,
	       json_bool(row, "suspended", false) ? "suspended " : "",
	       json_bool(row, "missing", false) ? "its folder is missing" : "");
}

void render_account_added(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	(void)number;
	put(json_str(row, "address"), 0);
	printf(" is ready\n");
}

void render_account_removed(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	(void)number;
	put(json_str(row, "address"), 0);
	printf(" and its mail are gone; sessions that have it open end within a minute\n");
}

void render_app_password_added(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	(void)number;
	printf("password: ");
	put(json_str(row, "password"), 0);
	printf("\nNobody can see it again; lost, it is removed and another one made.\n");
}

void render_app_password(const struct cli *c, const json_t *row, size_t number)
{
	span used = json_str(row, "used"), expires = json_str(row, "expires");

	(void)c;
	if (!number)
		printf("%-24s %-15s %-25s %-25s %s\n", "NAME", "FOR", "EXPIRES", "LAST USED",
		       "FROM");
	put(json_str(row, "name"), 24);
	printf(" ");
	put(json_str(row, "scope"), 15);
	printf(" ");
	put(expires.n ? expires : SPAN("never"), 25);
	printf(" ");
	put(used.n ? used : SPAN("never"), 25);
	printf(" ");
	put(json_str(row, "peer"), 0);
	printf("\n");
}

void render_alias(const struct cli *c, const json_t *row, size_t number)
{
	const json_t *targets = json_object_get(row, "targets"), *t;
	size_t i;

	(void)c;
	(void)number;
	put(json_str(row, "address"), 32);
	printf(" -> ");
	json_array_foreach(targets, i, t)
	{
		if (i)
			printf(", ");
		put(span_str(json_string_value(t)), 0);
	}
	if (!span_eq_str(json_str(row, "senders"), "anyone"))
		printf("  (from %.*s only)", SPAN_FMT(json_str(row, "senders")));
	if (json_int(row, "priority", 0))
		printf("  (priority %lld)", (long long)json_int(row, "priority", 0));
	printf("\n");
}

/* What was asked of a message's way, if anything. */
static void render_terms(const json_t *row)
{
	span by = json_str(row, "deliver_by"), until = json_str(row, "held_until");
	long long priority = json_int(row, "priority", 0);

	if (until.n)
		printf("    not before %.*s\n", SPAN_FMT(until));
	if (by.n)
		printf("    deliver by %.*s\n", SPAN_FMT(by));
	if (priority)
		printf("    priority %+lld\n", priority);
	if (json_bool(row, "require_tls", false))
		printf("    requires TLS\n");
}

/* WHY: with what happens next to each recipient, and why. */
static void put_queue(const json_t *row, size_t number, bool why)
{
	const json_t *rcpts = json_object_get(row, "recipients"), *r;
	char size[32];
	size_t i;

	size_text(json_int(row, "size", 0), size, sizeof size);
	printf("%s%.*s  %s  %s  from <", number ? "\n" : "", SPAN_FMT(json_str(row, "id")),
	       json_string_value(json_object_get(row, "accepted")), size);
	put(json_str(row, "from"), 0);
	printf(">\n");
	render_terms(row);
	json_array_foreach(rcpts, i, r)
	{
		span next = json_str(r, "next_attempt"), reply = json_str(r, "reply");

		printf("    to <");
		put(json_str(r, "address"), 0);
		printf(">, attempts %lld, ", (long long)json_int(r, "attempts", 0));
		if (json_bool(r, "in_delivery", false))
			printf("being delivered now\n");
		else if (span_eq_str(json_str(r, "state"), "held"))
			printf("held\n");
		else
			printf("next %.*s\n", SPAN_FMT(next));
		if (why)
			printf("       %.*s\n", SPAN_FMT(json_str(r, "why")));
		if (reply.n) {
			printf("       ");
			put(reply, 0);
			printf("\n");
		}
	}
}

void render_queue(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	put_queue(row, number, false);
}

void render_queue_entry(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	put_queue(row, number, true);
}

void render_trace(const struct cli *c, const json_t *row, size_t number)
{
	static char last[64];
	span id = json_str(row, "id"), time = json_str(row, "time");
	const char *key;
	json_t *value;

	(void)c;
	if (!number || !span_eq_str(id, last)) {
		printf("%s%.*s\n", number ? "\n" : "", SPAN_FMT(id));
		snprintf(last, sizeof last, "%.*s", (int)MIN(id.n, sizeof last - 1), id.p);
	}
	printf("  %.*s  ", SPAN_FMT(time));
	put(json_str(row, "event"), 16);
	json_object_foreach((json_t *)row, key, value)
	{
		if (strcmp(key, "id") == 0 || strcmp(key, "time") == 0 || strcmp(key, "event") == 0)
			continue;
		printf(" %s=", key);
		if (json_is_integer(value))
			printf("%lld", (long long)json_integer_value(value));
		else
			put(span_of(json_string_value(value), json_string_length(value)), 0);
	}
	printf("\n");
}

void render_destination(const struct cli *c, const json_t *row, size_t number)
{
	int64_t cooled_for = json_int(row, "cooled_seconds", 0);

	(void)c;
	if (!number)
		printf("%-32s %-12s %-12s %s\n", "DESTINATION", "CONNECTIONS", "STATE", "WHY");
	put(json_str(row, "route"), 32);
	printf(" %3lld %3lld/%-4lld ", (long long)json_int(row, "connections", 0),
	       (long long)json_int(row, "group_connections", 0),
	       (long long)json_int(row, "limit", 0));
	put(json_str(row, "state"), 12);
	if (cooled_for)
		printf(" for %lld s:", (long long)cooled_for);
	printf(" ");
	put(json_str(row, "why"), 0);
	printf("%s\n", json_bool(row, "waits", false) ? " (mail waits for a connection)" : "");
}

void render_status(const struct cli *c, const json_t *row, size_t number)
{
	const json_t *q = json_object_get(row, "queue"),
		     *counters = json_object_get(row, "counters");
	const char *key;
	json_t *value;

	(void)c;
	(void)number;
	printf("postrider %.*s on ", SPAN_FMT(json_str(row, "version")));
	put(json_str(row, "hostname"), 0);
	printf(", %.*s\n", SPAN_FMT(json_str(row, "time")));
	printf("  %-24s %lld\n", "sessions open", (long long)json_int(row, "sessions", 0));
	printf("  %-24s %lld messages, %lld recipients, %lld in delivery\n", "queue",
	       (long long)json_int(q, "messages", 0), (long long)json_int(q, "recipients", 0),
	       (long long)json_int(q, "in_delivery", 0));
	json_object_foreach((json_t *)counters, key, value)
		printf("  %-24s %lld\n", key, (long long)json_integer_value(value));
}

void render_count(const struct cli *c, const json_t *row, size_t number)
{
	if (json_object_get(row, "id"))
		render_queue(c, row, number);
	else if (json_bool(row, "dry_run", false))
		printf("%sdry run: %lld recipients of %lld messages would be touched; nothing was "
		       "changed\n",
		       number ? "\n" : "", (long long)json_int(row, "recipients", 0),
		       (long long)json_int(row, "messages", 0));
	else
		printf("%lld recipients\n", (long long)json_int(row, "recipients", 0));
}

void render_ban(const struct cli *c, const json_t *row, size_t number)
{
	const json_t *protos = json_object_get(row, "protocols"), *p;
	const char *until = json_string_value(json_object_get(row, "until"));
	_cleanup_(buf_donep) struct buf b = BUF_INIT(200);
	size_t i;

	(void)c;
	if (!number)
		printf("%-32s %-31s %-25s %s\n", "NETWORK", "PROTOCOLS", "UNTIL", "WHY");
	json_array_foreach(protos, i, p)
	{
		buf_put_str(&b, i ? "," : "");
		buf_put_str(&b, json_string_value(p));
	}
	put(json_str(row, "network"), 32);
	printf(" %-31s %-25s ", buf_cstr(&b), until ? until : "lifted by hand");
	put(json_str(row, "reason"), 0);
	printf("\n");
}

void render_ban_added(const struct cli *c, const json_t *row, size_t number)
{
	put(json_str(row, "network"), 0);
	printf(": banned\n");
}

void render_ban_removed(const struct cli *c, const json_t *row, size_t number)
{
	put(json_str(row, "network"), 0);
	printf(": may come again\n");
}

/* As a zone has it, and each string for forms of the web that want them one by one. */
static void put_dkim_record(const json_t *row)
{
	const json_t *strings = json_object_get(row, "strings"), *s;
	size_t i;

	put(json_str(row, "name"), 0);
	printf(". IN TXT (");
	json_array_foreach(strings, i, s)
	{
		printf(" \"");
		put(span_str(json_string_value(s)), 0);
		printf("\"");
	}
	printf(" )\n");
	json_array_foreach(strings, i, s)
	{
		printf("  string %zu: ", i + 1);
		put(span_str(json_string_value(s)), 0);
		printf("\n");
	}
}

void render_dkim_key(const struct cli *c, const json_t *row, size_t number)
{
	(void)c;
	printf("%s", number ? "\n" : "");
	put(json_str(row, "domain"), 0);
	printf(" ");
	put(json_str(row, "selector"), 0);
	printf(": %.*s, %.*s since %.*s\n", SPAN_FMT(json_str(row, "type")),
	       SPAN_FMT(json_str(row, "state")), SPAN_FMT(json_str(row, "since")));
	if (json_str(row, "error").n)
		printf("  the key cannot be used: %.*s\n", SPAN_FMT(json_str(row, "error")));
	else
		put_dkim_record(row);
}

void render_dkim_key_added(const struct cli *c, const json_t *row, size_t number)
{
	render_dkim_key(c, row, number);
	printf("Publish this record; when it can be seen everywhere: postrider dkim key use ");
	put(json_str(row, "domain"), 0);
	printf(" ");
	put(json_str(row, "selector"), 0);
	printf("\n");
}
