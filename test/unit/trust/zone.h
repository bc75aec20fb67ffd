/* What the tests of this room share: a zone as text, asked at once or in rounds. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trust/zone.h"

struct world {
	struct arena mem;
	struct trust_zone *zone;
	struct trust_answers *answers; /* of rounds */
	size_t rounds;
};

static _unused_ void world_init(struct world *w, const char *zone)
{
	struct err_info info = { 0 };

	*w = (struct world){ 0 };
	arena_init(&w->mem);
	if (trust_zone_parse(span_str(zone), &w->zone, &info) < 0)
		fail_msg("%s", info.text);
	w->answers = trust_answers_new(&w->mem);
}

static _unused_ void world_done(struct world *w)
{
	trust_answers_free(w->answers);
	trust_zone_free(w->zone);
	arena_done(&w->mem);
}

/* Answers what the last evaluation missed; there must have been something. */
static _unused_ void world_round(struct world *w)
{
	size_t n;
	const struct dns_question *q = trust_answers_missing(w->answers, &n);
	const struct trust_lookup *l = trust_zone_lookup(w->zone);

	assert_true(n > 0);
	assert_true(++w->rounds < 40);
	for (size_t i = 0; i < n; i++)
		trust_answers_add(w->answers, l->ask(l->arg, q[i].name, q[i].type));
}

#define assert_span(s, text)                                                                       \
	do {                                                                                       \
		span _s = (s);                                                                     \
		if (!span_eq_str(_s, text))                                                        \
			fail_msg("\"%.*s\" is not \"%s\"", SPAN_FMT(_s), text);                    \
	} while (0)
