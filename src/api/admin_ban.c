/* ban list, add, rm. */
#include "api/admin_int.h"

#include "guard/guard.h"

static int bad_net(struct admin_request *r)
{
	return admin_fail(r, ERR_INVAL,
			  "expected an address or a network such as 192.0.2.0/24 or 2001:db8::/48");
}

/* The network, and the protocols that are meant (all of them if none is named). */
static int what(struct admin_request *r, struct guard_ban *ret)
{
	span net, proto = json_str(r->args, "protocol");
	enum sess_proto p = guard_proto_find(proto);

	if (!admin_need(r, "network", &net))
		return ERR_INVAL;
	if (net_parse(net, &ret->net) < 0)
		return bad_net(r);
	ret->protos = GUARD_ALL;
	if (!proto.n)
		return 0;
	if (p == SESS_PROTO_COUNT)
		return admin_fail(r, ERR_INVAL,
				  "protocol: expected smtp, submission, imap, pop3 or lmtp");
	ret->protos = 1u << p;
	return 0;
}

/* What was meant by an address with bits behind the network's. */
static void put_network(struct admin_request *r, const struct net *n)
{
	char text[NET_TEXT];

	net_text(n, text);
	admin_row(r, json_pack("{s:s}", "network", text));
}

static int ban_add(struct admin_request *r)
{
	struct guard_ban b = { .since = clock_wall(), .reason = json_str(r->args, "reason") };
	struct err_info info = { 0 };
	span period = json_str(r->args, "for");
	usec d = 0;
	int e = what(r, &b);

	if (e < 0)
		return e;
	if (period.n && (clock_parse_duration(period, &d) < 0 || d <= 0))
		return admin_fail(r, ERR_INVAL, "for: expected a time such as 30m, 12h or 7d");
	if (b.reason.n > 200)
		return admin_fail(r, ERR_INVAL, "reason: expected at most 200 characters");
	b.until = d ? b.since + d : 0;
	e = guard_ban_add(r->env->guard, &b, &info);
	if (e < 0)
		return admin_fail(r, e, "%s", info.text);
	put_network(r, &b.net);
	return 0;
}

static int ban_rm(struct admin_request *r)
{
	struct guard_ban b = { 0 };
	char text[NET_TEXT];
	int e = what(r, &b);

	if (e < 0)
		return e;
	e = guard_ban_remove(r->env->guard, &b.net, b.protos);
	net_text(&b.net, text);
	if (e == ERR_NOENT)
		return admin_fail(r, e, "there is no such ban of %s; ban list shows all", text);
	if (e == 0)
		put_network(r, &b.net);
	return e;
}

static int ban_list(struct admin_request *r)
{
	struct guard_ban *bans;
	size_t n;

	guard_bans(r->env->guard, r->mem, &bans, &n);
	for (size_t i = 0; i < n; i++) {
		json_t *protos = json_array();
		char text[NET_TEXT];

		net_text(&bans[i].net, text);
		for (int p = 0; p < SESS_PROTO_COUNT; p++)
			if (bans[i].protos & 1u << p && guard_proto_name((enum sess_proto)p))
				json_array_append_new(
					protos, json_string(guard_proto_name((enum sess_proto)p)));
		admin_row(r, json_pack("{s:s,s:o,s:o,s:o,s:b,s:o}", "network", text, "protocols",
				       protos, "since", admin_time(bans[i].since), "until",
				       admin_time(bans[i].until), "by_hand", bans[i].by_hand,
				       "reason", json_span(bans[i].reason)));
	}
	return 0;
}

const struct admin_command admin_ban_commands[] = {
	{ "ban list", ban_list },
	{ "ban add", ban_add },
	{ "ban rm", ban_rm },
	{ NULL, NULL },
};
