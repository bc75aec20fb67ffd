/* Inside conf/: values between their text form and struct conf. */
#pragma once

#include "conf/conf.h"

/* Where a value stands, for messages. */
struct conf_place {
	const char *file;
	size_t line, column; /* from 1 */
};
/* Sets option O of C from TEXT (of a scalar).  IN is C, or the row of which O is a column.  On failure INFO says what
 * was expected. */
int conf_value_set(struct conf *c, void *in, const struct conf_option *o, span text,
		   const struct conf_place *at, struct err_info *info);
/* Text form of O's value, as it would stand in a file.  IN is the snapshot, or the row of which O is a column. */
int conf_value_put(const void *in, const struct conf_option *o, struct buf *b);
/* The rows of an option of that type in C. */
const void *conf_rows(const struct conf *c, const struct conf_option *o, size_t *ret_n);
int conf_fail(struct err_info *info, const struct conf_place *at, const char *fmt, ...)
	_printf_(3, 4);
const struct conf_option *conf_option_find(span dotted);
/* May S be a text value?  UTF-8 (libyaml sees to that) without control characters, line ends or
 * what YAML cannot carry; so that conf_show() gives it back. */
bool conf_text_ok(span s);
/* What a value of O looks like, for people: "a size such as 50M, from 1K to 1G". */
#define CONF_EXPECTED 240 /* room for it */
void conf_expected(const struct conf_option *o, char *ret, size_t size);
