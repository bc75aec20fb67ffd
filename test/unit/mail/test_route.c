/* Where an envelope recipient leads. */
#include "world.h"

#include <stdio.h>

static struct mail_route *list;
static size_t n;

static void route(const char *rcpt, bool authenticated)
{
	struct address a = addr(rcpt);

	assert_int_equal(mail_route(&w.env, &a, authenticated, &w.mem, &list, &n), 0);
	assert_true(n >= 1);
}

static void assert_refused(const char *rcpt, unsigned code, const char *enhanced)
{
	route(rcpt, false);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].kind, MAIL_ROUTE_REFUSED);
	assert_int_equal(list[0].refusal.code, code);
	assert_string_equal(list[0].refusal.enhanced, enhanced);
}

static bool leads_to(const char *address)
{
	bool found = false;

	for (size_t i = 0; i < n; i++)
		found |= list[i].kind != MAIL_ROUTE_REFUSED &&
			 span_eq_str(address_text(&list[i].address, &w.mem), address);
	return found;
}

static void test_kinds(void **state)
{
	route("Alice@Here.TEST", false);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].kind, MAIL_ROUTE_LOCAL);
	assert_true(span_eq_str(list[0].route, "local"));
	route("alice+lists@here.test", false);
	assert_int_equal(list[0].kind, MAIL_ROUTE_LOCAL);
	assert_refused("nobody@here.test", 550, "5.1.1");
	assert_refused("x@else.test", 550, "5.7.1");
	route("x@else.test", true);
	assert_int_equal(list[0].kind, MAIL_ROUTE_REMOTE);
	assert_true(span_eq_str(list[0].route, "smtp:else.test"));
	assert_int_equal(
		directory_account_set_suspended(w.env.directory, SPAN("bob@here.test"), true, NULL),
		0);
	assert_refused("bob@here.test", 550, "5.2.1");
}

static void test_postmaster(void **state)
{
	struct address bare = { .local = SPAN("PostMaster") }, other = { .local = SPAN("root") };

	alias("postmaster@here.test", "alice@here.test", NULL);
	assert_int_equal(mail_route(&w.env, &bare, false, &w.mem, &list, &n), 0);
	assert_true(leads_to("alice@here.test"));
	assert_int_equal(mail_route(&w.env, &other, false, &w.mem, &list, &n), 0);
	assert_int_equal(list[0].refusal.code, 550);
}

static void test_alias(void **state)
{
	alias("both@here.test", "alice@here.test", "info@here.test", "x@else.test", NULL);
	alias("info@here.test", "bob@here.test", "alice@here.test", "gone@here.test", NULL);
	route("both@here.test", false); /* an alias may lead out, whoever writes to it */
	assert_int_equal(n, 3);
	assert_true(leads_to("alice@here.test") && leads_to("bob@here.test") &&
		    leads_to("x@else.test"));
}

/* Another host may tell Bob from bob; here nobody does. */
static void test_case(void **state)
{
	struct mail_route big = { .kind = MAIL_ROUTE_REMOTE, .address = addr("Bob@else.test") },
			  small = { .kind = MAIL_ROUTE_REMOTE, .address = addr("bob@ELSE.test") };

	assert_false(mail_route_same(&big, &small));
	big.address = addr("bob@else.test");
	assert_true(mail_route_same(&big, &small));
	big = (struct mail_route){ .kind = MAIL_ROUTE_LOCAL, .address = addr("Bob@here.test") };
	small = (struct mail_route){ .kind = MAIL_ROUTE_LOCAL, .address = addr("bob@here.test") };
	assert_true(mail_route_same(&big, &small));
}

static void test_circles(void **state)
{
	alias("a@here.test", "b@here.test", NULL);
	alias("b@here.test", "c@here.test", "a@here.test", NULL);
	alias("c@here.test", "a@here.test", NULL);
	assert_refused("a@here.test", 550, "5.4.6");
	alias("d@here.test", "a@here.test", "alice@here.test", "d@here.test", NULL);
	route("d@here.test", false);
	assert_int_equal(n, 1);
	assert_true(leads_to("alice@here.test"));
}

/* Long chains lead to their end; aliases that meet again and again are walked once. */
static void test_depth(void **state)
{
	char from[32], to[32], also[32];

	alias("t0@here.test", "alice@here.test", NULL);
	for (int i = 1; i < 60; i++) {
		snprintf(from, sizeof from, "t%d@here.test", i);
		snprintf(to, sizeof to, "t%d@here.test", i - 1);
		snprintf(also, sizeof also, "t%d@here.test", i > 1 ? i - 2 : 0);
		alias(from, to, also, NULL);
	}
	route("t59@here.test", false);
	assert_int_equal(n, 1);
	assert_true(leads_to("alice@here.test"));
}

/* Nobody is left out of a list that is too long: it is refused. */
static void test_too_many(void **state)
{
	char name[40];
	span *targets = arena_array(&w.mem, span, 1000), lists[30];

	for (int l = 0; l < 30; l++) {
		for (int i = 0; i < 1000; i++)
			targets[i] = span_str(arena_printf(&w.mem, "u%d-%d@else.test", l, i));
		snprintf(name, sizeof name, "list%d@here.test", l);
		lists[l] = arena_span(&w.mem, span_str(name));
		assert_int_equal(directory_alias_add(w.env.directory, lists[l], targets,
						     l == 0 ? 1000 : 700, NULL),
				 0);
	}
	assert_int_equal(
		directory_alias_add(w.env.directory, SPAN("few@here.test"), lists, 2, NULL), 0);
	route("few@here.test", false);
	assert_int_equal(n, 1700);
	assert_int_equal(
		directory_alias_add(w.env.directory, SPAN("all@here.test"), lists, 30, NULL), 0);
	assert_refused("all@here.test", 550, "5.2.4");
}

static void test_catch_all(void **state)
{
	struct directory_domain d;

	assert_int_equal(directory_domain_get(w.env.directory, SPAN("second.test"), &w.mem, &d), 0);
	d.catch_all = SPAN("anybody@second.test"); /* who is nobody: a circle */
	assert_int_equal(directory_domain_set(w.env.directory, SPAN("second.test"), &d, NULL), 0);
	assert_refused("x@second.test", 550, "5.4.6");
	d.catch_all = SPAN("bob@here.test");
	assert_int_equal(directory_domain_set(w.env.directory, SPAN("second.test"), &d, NULL), 0);
	route("x@second.test", false);
	assert_true(leads_to("bob@here.test"));
}

static void test_quota(void **state)
{
	struct mail_verdict v;

	alias("both@here.test", "alice@here.test", "bob@here.test", NULL);
	assert_int_equal(
		directory_account_set_quota(w.env.directory, SPAN("alice@here.test"), 1, NULL), 0);
	route("alice@here.test", false);
	assert_false(mail_route_full(&w.env, list, n, &v)); /* nothing is in it */
	assert_verdict(send_one("x@else.test", "alice@here.test", "Subject: 1\r\n\r\n"), "250");
	assert_true(mail_route_full(&w.env, list, n, &v));
	assert_int_equal(v.code, 452);
	assert_string_equal(v.enhanced, "4.2.2");
	route("both@here.test", false); /* the other one can take it */
	assert_false(mail_route_full(&w.env, list, n, &v));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = { T(test_kinds),    T(test_postmaster), T(test_alias),
					    T(test_case),     T(test_circles),	  T(test_depth),
					    T(test_too_many), T(test_catch_all),  T(test_quota) };
	return cmocka_run_group_tests_name("mail: route", tests, NULL, NULL);
}
