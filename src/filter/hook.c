#include "filter/hook.h"

#include "base/codec.h"
#include "filter/headers.h"
#include "format/json.h"

/* ------------------------------------------------------------------ the request */

static json_t *headers_json(span header)
{
	json_t *list = json_array();
	struct header_field f;
	size_t at = 0;

	while (header_next_field(header, &at, &f)) {
		json_t *pair = json_array();

		json_array_append_new(pair, json_span(f.name));
		json_array_append_new(pair, json_span(span_trim(f.value)));
		json_array_append_new(list, pair);
	}
	return list;
}

static json_t *connection_json(const struct filter_session *s)
{
	json_t *o = json_object();
	char ip[SOCK_TEXT];

	sock_ip_text(&s->peer, ip);
	json_object_set_new(o, "ip", json_string(ip));
	json_object_set_new(o, "port", json_integer(sock_port(&s->peer)));
	json_object_set_new(o, "name", json_span(s->peer_name));
	json_object_set_new(o, "helo", json_span(s->helo));
	json_object_set_new(o, "tls", s->tls_version.n ? json_span(s->tls_version) : json_null());
	json_object_set_new(o, "cipher", s->cipher.n ? json_span(s->cipher) : json_null());
	json_object_set_new(o, "user", s->auth_user.n ? json_span(s->auth_user) : json_null());
	return o;
}

static json_t *envelope_json(const struct hook_message *m)
{
	json_t *o = json_object(), *to = json_array();

	for (size_t i = 0; i < m->n_rcpts; i++)
		json_array_append_new(to, json_span(m->rcpts[i]));
	json_object_set_new(o, "from", json_span(m->session->sender));
	json_object_set_new(o, "to", to);
	json_object_set_new(o, "smtputf8", json_boolean(m->session->smtputf8));
	return o;
}

int hook_request_put(struct buf *b, const struct hook_message *m)
{
	json_t *o _cleanup_(json_decrefp) = json_object();

	json_object_set_new(o, "version", json_integer(1));
	json_object_set_new(o, "stage", json_string(m->stage));
	json_object_set_new(o, "id", json_span(m->session->id));
	json_object_set_new(o, "server", json_span(m->session->hostname));
	json_object_set_new(o, "direction", json_string(m->submission ? "submission" : "inbound"));
	json_object_set_new(o, "connection", connection_json(m->session));
	json_object_set_new(o, "envelope", envelope_json(m));
	if (m->header.p) {
		json_object_set_new(o, "headers", headers_json(m->header));
		json_object_set_new(o, "size", json_integer((json_int_t)m->size));
	}
	if (m->show_body) {
		struct buf text _cleanup_(buf_donep) = BUF_INIT(m->body.n / 3 * 4 + 8);

		base64_encode(&text, m->body);
		json_object_set_new(o, "body", json_span(buf_span(&text)));
	}
	return json_put(b, o);
}

/* ------------------------------------------------------------------ the answer */

static const struct {
	const char *name;
	enum filter_action action;
	bool quarantine;
} actions[] = {
	{ "accept", FILTER_CONTINUE, false },	 { "reject", FILTER_REJECT, false },
	{ "defer", FILTER_TEMPFAIL, false },	 { "discard", FILTER_DISCARD, false },
	{ "quarantine", FILTER_CONTINUE, true },
};

static void fail(struct filter_result *ret, const char *why)
{
	*ret = (struct filter_result){ .action = FILTER_FAILED, .text = span_str(why) };
}

/* One entry of a list of edits. */
typedef bool entry_fn(const json_t *entry, struct arena *mem, struct filter_edit *ret);

static bool read_header(const json_t *entry, struct arena *mem, struct filter_edit *ret)
{
	span name = json_str(entry, "name"), value = json_str(entry, "value");

	if (!name.p || !value.p || !header_name_valid(name))
		return false;
	ret->name = arena_span(mem, name);
	ret->value = filter_header_value(value, true, mem);
	ret->index = 1;
	return true;
}

static bool read_removed(const json_t *entry, struct arena *mem, struct filter_edit *ret)
{
	int64_t index = json_int(entry, "index", 1);
	span name = json_str(entry, "name");

	if (!name.p || !header_name_valid(name) || index < 1 || index > UINT32_MAX)
		return false;
	ret->name = arena_span(mem, name);
	ret->index = (uint32_t)index;
	return true;
}

static bool read_address(const json_t *entry, struct arena *mem, struct filter_edit *ret)
{
	if (!json_is_string(entry))
		return false;
	ret->value = arena_span(mem, span_of(json_string_value(entry), json_string_length(entry)));
	return filter_address_ok(ret->value);
}

static const struct {
	const char *key;
	enum filter_edit_kind kind;
	entry_fn *read;
} lists[] = {
	{ "remove_headers", FILTER_CHANGE_HEADER, read_removed },
	{ "add_headers", FILTER_INSERT_HEADER, read_header },
	{ "add_recipients", FILTER_ADD_RCPT, read_address },
	{ "remove_recipients", FILTER_DELETE_RCPT, read_address },
};

static bool read_edits(const json_t *o, struct arena *mem, struct filter_result *ret)
{
	size_t bytes = 0;

	ret->edits = arena_array(mem, struct filter_edit, FILTER_EDITS_MAX);
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		const json_t *list = json_object_get(o, lists[i].key);

		if (list && !json_is_array(list))
			return false;
		for (size_t k = 0; k < json_array_size(list); k++) {
			struct filter_edit e = { .kind = lists[i].kind };

			if (ret->n_edits == FILTER_EDITS_MAX ||
			    !lists[i].read(json_array_get(list, k), mem, &e))
				return false;
			bytes += e.name.n + e.value.n;
			ret->edits[ret->n_edits++] = e;
		}
	}
	return bytes <= FILTER_EDIT_BYTES_MAX;
}

static bool read_action(const json_t *o, struct filter_result *ret)
{
	span name = json_str(o, "action");

	for (size_t i = 0; i < ARRAY_LEN(actions); i++)
		if (span_eq_str(name, actions[i].name)) {
			ret->action = actions[i].action;
			ret->quarantine = actions[i].quarantine;
			return true;
		}
	return false;
}

/* "code", "enhanced" and "text" as one reply, so that they are checked as any other. */
static bool read_reply(const json_t *o, struct arena *mem, struct filter_result *ret)
{
	enum filter_action action = ret->action;
	int64_t code = json_int(o, "code", action == FILTER_REJECT ? 550 : 451);
	span enhanced = json_str(o, "enhanced"), text = json_str(o, "text");
	struct buf b _cleanup_(buf_donep) = BUF_INIT(2000);

	buf_printf(&b, "%lld ", (long long)code);
	buf_put_span(&b, enhanced);
	buf_put_str(&b, enhanced.n ? " " : "");
	buf_put_span(&b, filter_line(text, mem));
	return filter_reply_parse(buf_span(&b), mem, ret) == 0 && ret->action == action &&
	       ret->enhanced.n == enhanced.n;
}

void hook_answer_parse(span json, struct arena *mem, struct filter_result *ret)
{
	struct err_info info;
	json_t *o _cleanup_(json_decrefp) = json_parse(json, &info);
	struct filter_result r = { 0 };

	if (!json_is_object(o))
		fail(&r, "its answer is no JSON object");
	else if (!read_action(o, &r))
		fail(&r, "its answer has no action that is known");
	else if (!read_edits(o, mem, &r))
		fail(&r, "its answer has a list of changes that cannot be read");
	else if ((r.action == FILTER_REJECT || r.action == FILTER_TEMPFAIL) &&
		 !read_reply(o, mem, &r))
		fail(&r, "its answer has a code that does not suit the action");
	else
		r.quarantine_text = r.quarantine ? filter_line(json_str(o, "text"), mem)
						 : SPAN_NULL;
	*ret = r;
}
