/* The schema and a snapshot as text for people: config show, the manual, a first file. */
#include "conf/conf_int.h"

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

int conf_show_json(const struct conf *c, struct buf *b)
{
	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];
		_cleanup_(buf_donep) struct buf value = BUF_INIT(256 * 1024);
		bool list = o->type == CONF_ADDRESSES;

		conf_value_put(c, o, &value);
		buf_printf(b, "%s\"%s\":", i ? "," : "{", o->name);
		if (o->type == CONF_CERTS) {
			buf_put_char(b, '[');
			for (size_t k = 0; k < c->n_certs; k++) {
				buf_put_str(b, k ? ",{\"chain\":\"" : "{\"chain\":\"");
				buf_put_escaped(b, c->certs[k].chain_file, 4096);
				buf_put_str(b, "\",\"key\":\"");
				buf_put_escaped(b, c->certs[k].key_file, 4096);
				buf_put_str(b, "\"}");
			}
			buf_put_char(b, ']');
		} else if (list || o->type == CONF_TEXT || o->type == CONF_COUNT) {
			buf_put_span(b, buf_span(&value));
		} else if (o->type == CONF_BOOL) {
			buf_put_str(b, span_eq_str(buf_span(&value), "yes") ? "true" : "false");
		} else {
			buf_put_char(b, '"');
			buf_put_span(b, buf_span(&value));
			buf_put_char(b, '"');
		}
	}
	buf_put_str(b, "}\n");
	return b->failed ? ERR_TOOBIG : 0;
}

int conf_manual(struct buf *b)
{
	char expected[160];

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
