/* The schema and a snapshot as text for people: config show, the manual, a first file. */
#include "conf/conf_int.h"

#include "format/json.h"

/* The part of a dotted name before its last dot. */
static span section_of(const char *name)
{
	span s = span_str(name);

	return span_sub(s, 0, span_rfind(s, '.'));
}

/* Writes the section lines that lead from the previous option's section to this one's. */
static void put_sections(struct buf *b, span *last, const char *name, unsigned *ret_depth)
{
	span section = section_of(name), rest = section, old = *last;
	unsigned depth = 0;
	bool same = true;

	while (rest.p) {
		span part = span_cut(&rest, '.');
		span was = old.p ? span_cut(&old, '.') : SPAN_NULL;

		if (!same || !span_eq(part, was)) {
			same = false;
			for (unsigned i = 0; i < depth; i++)
				buf_put_str(b, "  ");
			buf_put_span(b, part);
			buf_put_str(b, ":\n");
		}
		depth++;
	}
	*last = section;
	*ret_depth = depth;
}

int conf_show(const struct conf *c, struct buf *b)
{
	span last = SPAN_NULL;
	unsigned depth;

	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];
		span name = span_str(o->name);

		put_sections(b, &last, o->name, &depth);
		while (depth--)
			buf_put_str(b, "  ");
		buf_put_span(b, span_from(name, last.n + 1));
		buf_put_str(b, ": ");
		conf_value_put(c, o, b);
		buf_put_char(b, '\n');
	}
	return b->failed ? ERR_TOOBIG : 0;
}

static json_t *value_json(const void *in, const struct conf_option *o);

static json_t *rows_json(const struct conf *c, const struct conf_option *o)
{
	json_t *list = json_array();
	size_t n;
	const char *row = conf_rows(c, o, &n);

	for (size_t i = 0; i < n; i++, row += o->table->row_size) {
		json_t *map = json_object();

		for (size_t k = 0; k < o->table->n_columns; k++)
			json_object_set_new(map, o->table->columns[k].name,
					    value_json(row, &o->table->columns[k]));
		json_array_append_new(list, map);
	}
	return list;
}

static json_t *set_json(const char *choices, unsigned set)
{
	json_t *list = json_array();
	span rest = span_str(choices);

	for (int i = 0; rest.p; i++) {
		span name = span_cut(&rest, '|');

		if (set & 1u << i)
			json_array_append_new(list, json_span(name));
	}
	return list;
}

/* Numbers and truth values as such; sizes, times and choices as they would be written. */
static json_t *value_json(const void *in, const struct conf_option *o)
{
	const void *field = (const char *)in + o->offset;
	_cleanup_(buf_donep) struct buf text = BUF_INIT(1024);
	const struct conf_listener *l;
	const struct conf_networks *nets;
	json_t *list;

	switch (o->type) {
	case CONF_ROWS:
		return rows_json(in, o);
	case CONF_SET:
		return set_json(o->choices, *(const unsigned *)field);
	case CONF_ADDRESSES:
		l = field;
		list = json_array();
		for (size_t i = 0; i < l->n; i++)
			json_array_append_new(list, json_span(l->addresses[i]));
		return list;
	case CONF_NETWORKS:
		nets = field;
		list = json_array();
		for (size_t i = 0; i < nets->n; i++) {
			char net[NET_TEXT];

			net_text(&nets->nets[i], net);
			json_array_append_new(list, json_string(net));
		}
		return list;
	case CONF_TEXT:
		return json_span(*(const span *)field);
	case CONF_BOOL:
		return json_boolean(*(const bool *)field);
	case CONF_COUNT:
		return json_integer(*(const uint32_t *)field);
	case CONF_SIZE:
	case CONF_DURATION:
	case CONF_CHOICE:
		break;
	}
	conf_value_put(in, o, &text);
	return json_span(buf_span(&text));
}

int conf_show_json(const struct conf *c, struct buf *b)
{
	_cleanup_(json_decrefp) json_t *all = json_object();

	for (size_t i = 0; i < conf_n_options; i++)
		json_object_set_new(all, conf_options[i].name, value_json(c, &conf_options[i]));
	json_put(b, all);
	return buf_put_char(b, '\n');
}

int conf_manual(struct buf *b)
{
	char expected[CONF_EXPECTED];

	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];

		conf_expected(o, expected, sizeof expected);
		buf_printf(b, ".TP\n.B %s\n%s\n", o->name, o->help);
		buf_printf(b, "Value: %s. Default: %s. %s\n", expected,
			   *o->fallback ? o->fallback : "none",
			   o->reload == CONF_RELOAD ? "Takes effect on reload."
						    : "Takes effect at the next start.");
	}
	return b->failed ? ERR_TOOBIG : 0;
}

int conf_template(struct buf *b, span hostname, span data_dir)
{
	buf_put_str(b, "# Postrider's configuration. All options and their defaults: postrider "
		       "config show;\n"
		       "# what they mean: man postrider.conf. After a change: postrider config "
		       "check, then reload.\n"
		       "server:\n  hostname: ");
	buf_put_span(b, hostname);
	buf_put_str(b, "\n  data: ");
	buf_put_span(b, data_dir);
	buf_put_str(b,
		    "\n\n# A certificate that clients trust; until then a self-signed one serves.\n"
		    "#tls:\n#  certificates:\n#    - chain: /etc/postrider/fullchain.pem\n"
		    "#      key: /etc/postrider/privkey.pem\n");
	return b->failed ? ERR_TOOBIG : 0;
}
