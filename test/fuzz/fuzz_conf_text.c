/* Configuration text: whatever is taken is shown so that it reads the same, as YAML and as JSON;
 * what is refused is told with its place. */
#include <assert.h>

#include "conf/conf.h"
#include "format/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf one = BUF_INIT(4 * CONF_MAX_TEXT), two = one, json = one;
	struct err_info info = { 0 };
	struct conf *c = NULL, *again = NULL;
	json_t *j;

	if (conf_parse(span_of(p, n), "f", &c, &info) < 0) {
		assert(!c && strncmp(info.text, "f:", 2) == 0);
		return 0;
	}
	assert(conf_show(c, &one) == 0);
	if (one.n <= CONF_MAX_TEXT) {
		assert(conf_parse(buf_span(&one), "f", &again, &info) == 0);
		assert(conf_show(again, &two) == 0);
		assert(span_eq(buf_span(&one), buf_span(&two)));
	}
	assert(conf_show_json(c, &json) == 0);
	j = json_parse(span_trim(buf_span(&json)), NULL);
	assert(j && json_object_size(j) == conf_n_options);
	json_decref(j);
	conf_unref(c);
	conf_unref(again);
	buf_done(&one);
	buf_done(&two);
	buf_done(&json);
	return 0;
}
