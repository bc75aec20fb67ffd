/* status, clock (lab), reload, stop. */
#include "api/admin_int.h"

#include <unistd.h>

static int cmd_status(struct admin_request *r)
{
	uint64_t messages, rcpts, leased;
	struct conf *conf = r->env->conf(r->env);
	json_t *counters = json_object(), *j;

	queue_stats(r->env->queue, &messages, &rcpts, &leased);
	for (int c = 0; c < COUNT_MAX; c++)
		json_object_set_new(counters, count_name((enum counter)c),
				    json_integer((json_int_t)count_get((enum counter)c)));
	j = json_pack("{s:s,s:o,s:o,s:I,s:{s:I,s:I,s:I},s:o}", "version", POSTRIDER_VERSION,
		      "hostname", json_span(conf->hostname), "time", admin_time(clock_wall()),
		      "sessions", (json_int_t)r->hooks->sessions(r->hooks->arg), "queue",
		      "messages", (json_int_t)messages, "recipients", (json_int_t)rcpts,
		      "in_delivery", (json_int_t)leased, "counters", counters);
	conf_unref(conf);
	admin_row(r, j);
	return 0;
}

static int cmd_clock(struct admin_request *r)
{
	span by = json_str(r->args, "by");
	usec d;

	if (!r->hooks->clock_set)
		return admin_fail(r, ERR_PERM, "the clock can be turned in a lab only");
	if (!by.n || clock_parse_duration(by, &d) < 0)
		return admin_fail(r, ERR_INVAL, "expected a time such as +4h or -1h");
	r->hooks->clock_set(r->hooks->arg, clock_offset() + d);
	admin_row(r, json_pack("{s:o}", "time", admin_time(clock_wall())));
	return 0;
}

static int cmd_reload(struct admin_request *r)
{
	struct err_info info = { 0 };
	int e = r->hooks->reload(r->hooks->arg, &info);

	return e < 0 ? admin_fail(r, e, "%s", info.text) : 0;
}

static int cmd_stop(struct admin_request *r)
{
	r->hooks->stop(r->hooks->arg);
	return 0;
}

const struct admin_command admin_server_commands[] = {
	{ "status", cmd_status }, { "clock", cmd_clock }, { "reload", cmd_reload },
	{ "stop", cmd_stop },	  { NULL, NULL },
};
