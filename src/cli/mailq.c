/* mailq(1): the queue in the layout that Postfix gave it, which status tools read. */
#include "cli/cli_int.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "format/header.h"

struct shown {
	unsigned long long messages, bytes;
};

static void put(span s)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);

	buf_put_escaped(&b, s, 1500);
	fputs(buf_cstr(&b), stdout);
}

/* "2026-11-22T02:40:43.185Z" as "Sun Nov 22 02:40:43". */
static void put_time(span iso)
{
	static const char *const days[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	struct date_civil c = { 0 };
	char text[32];

	snprintf(text, sizeof text, "%.*s", (int)MIN(iso.n, sizeof text - 1), iso.p);
	if (sscanf(text, "%d-%d-%dT%d:%d:%d", &c.year, &c.month, &c.day, &c.hour, &c.minute,
		   &c.second) != 6 ||
	    c.month < 1 || c.month > 12)
		return;
	date_civil_of(date_of_civil(&c), &c);
	printf("%s %s %2d %02d:%02d:%02d", days[c.weekday], months[c.month - 1], c.day, c.hour,
	       c.minute, c.second);
}

/* "*": being delivered, "!": held. */
static char mark_of(const json_t *rcpts)
{
	const json_t *r;
	size_t i;
	char mark = ' ';

	json_array_foreach(rcpts, i, r)
	{
		if (json_bool(r, "in_delivery", false))
			return '*';
		if (span_eq_str(json_str(r, "state"), "held"))
			mark = '!';
	}
	return mark;
}

static void show(void *arg, const json_t *row)
{
	const json_t *rcpts = json_object_get(row, "recipients"), *r;
	span sender = json_str(row, "from"), id = json_str(row, "id"), reply = SPAN_NULL;
	struct shown *s = arg;
	size_t i;

	if (!s->messages++)
		printf("-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
	s->bytes += (unsigned long long)json_int(row, "size", 0);
	printf("%.*s%c %8lld ", SPAN_FMT(id), mark_of(rcpts), (long long)json_int(row, "size", 0));
	put_time(json_str(row, "accepted"));
	printf("  ");
	put(sender.n ? sender : SPAN("MAILER-DAEMON"));
	printf("\n");
	json_array_foreach(rcpts, i, r)
	{
		span now = json_str(r, "reply");

		if (now.n && !span_eq(now, reply)) { /* said once above those it is for */
			printf("(");
			put(now);
			printf(")\n");
		}
		reply = now;
		printf("%41s", "");
		put(json_str(r, "address"));
		printf("\n");
	}
	printf("\n");
}

int cli_mailq(struct cli *c)
{
	_cleanup_(json_decrefp)
		json_t *request = json_pack("{s:s,s:b}", "command", "queue list", "all", true);
	struct shown s = { 0 };

	if (c->json)
		return cli_error(EX_USAGE,
				 "mailq has its own layout only; postrider queue list --json");
	int code = cli_ask(c, request, show, &s);

	if (code)
		return code;
	if (s.messages)
		printf("-- %llu Kbytes in %llu Request%s.\n", (s.bytes + 1023) / 1024, s.messages,
		       s.messages == 1 ? "" : "s");
	else
		printf("Mail queue is empty\n");
	return 0;
}
