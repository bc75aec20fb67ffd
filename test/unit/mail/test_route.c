/* Where an envelope recipient leads. */
#include "world.h"

#include <stdio.h>
#include <string.h>

static struct mail_route *list;
static size_t n;

static void route_from(const char *sender, bool authenticated, const char *rcpt)
{
	struct address a = addr(rcpt), s = *sender ? addr(sender) : (struct address){ 0 };
	struct mail_route_from from = { .sender = &s, .authenticated = authenticated };

	assert_int_equal(mail_route(&w.env, &a, &from, &w.mem, &list, &n), 0);
	assert_true(n >= 1);
}

static void route(const char *rcpt, bool authenticated)
{
	route_from("", authenticated, rcpt);
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
	const struct mail_route_from anybody = { 0 };
	struct address bare = { .local = SPAN("PostMaster") }, other = { .local = SPAN("root") };

	alias("postmaster@here.test", "alice@here.test", NULL);
	assert_int_equal(mail_route(&w.env, &bare, &anybody, &w.mem, &list, &n), 0);
	assert_true(leads_to("alice@here.test"));
	assert_int_equal(mail_route(&w.env, &other, &anybody, &w.mem, &list, &n), 0);
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

/* ------------------------------------------------------------------ reverse-paths */

static const char *reverse_path(const char *sender)
{
	return arena_span(&w.mem,
			  mail_reverse_path(&w.env, span_str(sender), list[0].route, &w.mem))
		.p;
}

static void test_srs(void **state)
{
	const char *ours;

	alias("out@here.test", "x@else.test", NULL);
	route_from("ann@far.test", false, "out@here.test");
	assert_int_equal(list[0].kind, MAIL_ROUTE_REMOTE);
	assert_true(span_eq_str(list[0].route, "srs+smtp:else.test"));
	ours = reverse_path("ann@far.test");
	assert_non_null(strstr(ours, "@mx.here.test"));

	/* The bounce, from whoever; a stranger's guess; too late. */
	route_from("", false, ours);
	assert_int_equal(n, 1);
	assert_int_equal(list[0].kind, MAIL_ROUTE_REMOTE);
	assert_true(leads_to("ann@far.test"));
	assert_true(span_eq_str(list[0].route, "smtp:far.test"));
	assert_refused("SRS0=AAAAAA=AA=victim.test=ann@mx.here.test", 550, "5.7.1");
	assert_refused("SRS0=x@mx.here.test", 550, "5.7.1");
	clock_set_offset(20 * 86400 * USEC_SEC);
	route_from("", false, ours);
	assert_true(leads_to("ann@far.test"));
	clock_set_offset(23 * 86400 * USEC_SEC);
	assert_refused(ours, 550, "5.1.1");
	clock_set_offset(0);

	/* The key before the present one is still good, the one before that no more. */
	assert_int_equal(directory_srs_rotate(w.env.directory, NULL), 0);
	route_from("", false, ours);
	assert_true(leads_to("ann@far.test"));
	assert_int_equal(directory_srs_rotate(w.env.directory, NULL), 0);
	assert_refused(ours, 550, "5.7.1");
}

/* Only a foreign sender needs it, and only where the mail goes out. */
static void test_no_srs(void **state)
{
	alias("out@here.test", "x@else.test", "alice@here.test", NULL);
	route_from("bob@here.test", true, "out@here.test");
	assert_int_equal(n, 2);
	for (size_t i = 0; i < n; i++)
		assert_false(span_starts(list[i].route, SPAN("srs+")));
	route_from("", false, "out@here.test");
	assert_false(span_starts(list[0].route, SPAN("srs+")));
	route_from("SRS0=AAAAAA=AA=a.test=b@mx.here.test", false, "out@here.test");
	assert_false(span_starts(list[0].route, SPAN("srs+")));
	route("x@else.test", true);
	assert_true(span_eq_str(list[0].route, "smtp:else.test"));
	assert_string_equal(reverse_path("ann@far.test"), "ann@far.test");
	w.conf.srs = false;
	route_from("ann@far.test", false, "out@here.test");
	assert_true(span_eq_str(list[0].route, "smtp:else.test"));
	w.conf.srs = true;
	w.conf.srs_domain = SPAN("bounce.here.test");
	route_from("ann@far.test", false, "out@here.test");
	assert_non_null(strstr(reverse_path("ann@far.test"), "@bounce.here.test"));
	assert_string_equal(
		reverse_path("a-very-long-name-as-bulk-senders-have-them-for-bounces@far.test"),
		"a-very-long-name-as-bulk-senders-have-them-for-bounces@far.test");
}

/* A bounce of what went out to the alias's target comes back to the sender through the queue. */
static void test_bounce_comes_back(void **state)
{
	struct queue_lease l;

	alias("out@here.test", "x@else.test", NULL);
	assert_verdict(send_one("ann@far.test", "out@here.test", "Subject: 1\r\n\r\n"), "250");
	assert_true(take_lease(&l));
	assert_true(span_eq_str(l.sender, "ann@far.test"));
	const char *ours =
		arena_span(&w.mem, mail_reverse_path(&w.env, l.sender, l.route, &w.mem)).p;
	queue_release(w.env.queue, &l);
	assert_verdict(send_one("", ours, "Subject: bounce\r\n\r\n"), "250");
	assert_has(queued_body("ann@far.test"), "Subject: bounce");
}

/* ------------------------------------------------------------------ lists, domains */

static void list_of(const char *address, enum alias_senders who, const char *member)
{
	span t = span_str(member);
	struct directory_alias v = {
		.address = span_str(address), .targets = &t, .n_targets = 1, .senders = who
	};

	assert_int_equal(directory_alias_make(w.env.directory, &v, NULL), 0);
}

static void assert_not_allowed(const char *sender, bool authenticated, const char *rcpt)
{
	route_from(sender, authenticated, rcpt);
	assert_int_equal(list[0].kind, MAIL_ROUTE_REFUSED);
	assert_int_equal(list[0].refusal.code, 550);
	assert_string_equal(list[0].refusal.enhanced, "5.7.2");
}

static void test_groups(void **state)
{
	list_of("inner@here.test", SENDERS_ANYONE, "alice@here.test");
	list_of("team@here.test", SENDERS_MEMBERS, "inner@here.test");
	list_of("staff@here.test", SENDERS_AUTHENTICATED, "alice@here.test");
	list_of("club@here.test", SENDERS_MEMBERS, "carol@far.test");
	route_from("alice@here.test", true, "team@here.test");
	assert_true(leads_to("alice@here.test"));
	route_from("alice+x@here.test", true, "team@here.test");
	assert_true(leads_to("alice@here.test"));
	assert_not_allowed("alice@here.test", false, "team@here.test"); /* says who? */
	assert_not_allowed("bob@here.test", true, "team@here.test");
	assert_not_allowed("x@far.test", false, "team@here.test");
	assert_not_allowed("", false, "team@here.test");
	route_from("carol@far.test", false, "club@here.test");
	assert_true(leads_to("carol@far.test"));
	route_from("bob@here.test", true, "staff@here.test");
	assert_true(leads_to("alice@here.test"));
	assert_not_allowed("bob@here.test", false, "staff@here.test");
	assert_not_allowed("", false, "staff@here.test");
}

static void domain(const char *name, const char *alias_of, const char *unknown_to)
{
	struct directory_domain v = { .name = span_str(name),
				      .subaddress = true,
				      .alias_of = span_str(alias_of),
				      .unknown_to = span_str(unknown_to) };

	assert_int_equal(directory_domain_make(w.env.directory, &v, NULL), 0);
}

static void test_domains(void **state)
{
	domain("other.test", "here.test", "");
	domain("backup.test", "", "mx");
	domain("moving.test", "", "smtp:[192.0.2.1]:2525");
	account("carol@moving.test");
	route("Alice@other.test", false);
	assert_int_equal(list[0].kind, MAIL_ROUTE_LOCAL);
	assert_true(leads_to("Alice@here.test"));
	assert_refused("nobody@other.test", 550, "5.1.1");
	route_from("ann@far.test", false, "x@backup.test");
	assert_int_equal(list[0].kind, MAIL_ROUTE_REMOTE);
	assert_true(span_eq_str(list[0].route, "smtp:backup.test"));
	route_from("ann@far.test", false, "x@moving.test");
	assert_true(span_eq_str(list[0].route, "smtp:[192.0.2.1]:2525"));
	route("carol@moving.test", false);
	assert_int_equal(list[0].kind, MAIL_ROUTE_LOCAL);
	alias("carol2@here.test", "dave@moving.test", NULL); /* ours: the sender stays */
	route_from("ann@far.test", false, "carol2@here.test");
	assert_true(span_eq_str(list[0].route, "smtp:[192.0.2.1]:2525"));
}

/* The first entry that fits decides, by domain and by sender. */
static void test_transports(void **state)
{
	struct conf_route routes[] = {
		{ SPAN("else.test"), SPAN("boss@here.test"), SPAN("via:gold") },
		{ SPAN("else.test"), SPAN("@here.test"), SPAN("smtp:[192.0.2.9]:26") },
		{ SPAN("direct.far.test"), SPAN_NULL, SPAN("mx") },
		{ SPAN(".far.test"), SPAN_NULL, SPAN("refuse: far away is  too far") },
		{ SPAN("*"), SPAN("@second.test"), SPAN("lmtp:[192.0.2.8]") },
	};

	w.conf.routes = routes;
	w.conf.n_routes = ARRAY_LEN(routes);
	route_from("Boss@here.test", true, "x@ELSE.test");
	assert_true(span_eq_str(list[0].route, "via:gold"));
	route_from("alice@here.test", true, "x@else.test");
	assert_true(span_eq_str(list[0].route, "smtp:[192.0.2.9]:26"));
	route_from("", true, "x@else.test");
	assert_true(span_eq_str(list[0].route, "smtp:else.test"));
	route_from("alice@here.test", true, "x@sub.else.test");
	assert_true(span_eq_str(list[0].route, "smtp:sub.else.test"));
	route_from("alice@here.test", true, "x@direct.far.test");
	assert_true(span_eq_str(list[0].route, "smtp:direct.far.test"));
	for (int i = 0; i < 2; i++) {
		route_from("alice@here.test", true, i ? "x@far.test" : "x@a.b.far.test");
		assert_int_equal(list[0].kind, MAIL_ROUTE_REFUSED);
		assert_string_equal(list[0].refusal.enhanced, "5.7.1");
		assert_true(span_eq_str(list[0].refusal.text, "far away is  too far"));
	}
	route_from("alice@here.test", true, "x@notfar.test");
	assert_true(span_eq_str(list[0].route, "smtp:notfar.test"));
	route_from("x@second.test", true, "x@anywhere.test");
	assert_true(span_eq_str(list[0].route, "lmtp:[192.0.2.8]"));
	alias("out@here.test", "x@else.test", NULL); /* the way is the same with a new sender */
	route_from("x@third.test", false, "out@here.test");
	assert_true(span_eq_str(list[0].route, "srs+smtp:else.test"));
	assert_refused("x@far.test", 550, "5.7.1");
	route("alice@here.test", false); /* mail for here never leaves */
	assert_int_equal(list[0].kind, MAIL_ROUTE_LOCAL);
}

/* A queued message follows an account that moved away after it was accepted. */
static void test_moved(void **state)
{
	struct directory_domain v;
	char id[ACCOUNT_ID_LEN + 1];

	alias("two@here.test", "alice@here.test", "bob@here.test", NULL);
	assert_verdict(send_one("ann@far.test", "two@here.test", "Subject: 1\r\n\r\n"), "250");
	assert_int_equal(directory_account_remove(w.env.directory, SPAN("bob@here.test"), id, NULL),
			 0);
	assert_int_equal(directory_domain_get(w.env.directory, SPAN("here.test"), &w.mem, &v), 0);
	v.unknown_to = SPAN("smtp:[192.0.2.1]:25");
	assert_int_equal(directory_domain_set(w.env.directory, SPAN("here.test"), &v, NULL), 0);
	deliver_all();
	assert_int_equal(inbox_count("alice@here.test"), 1);
	assert_has(queued_body("bob@here.test"), "Subject: 1");
}

/* ------------------------------------------------------------------ telling */

static void test_broken_target(void **state)
{
	struct event_list notes;
	struct address a = addr("both@here.test");
	struct mail_route_from from = { .notes = &notes };

	alias("both@here.test", "alice@here.test", "gone@here.test", NULL);
	event_list_init(&notes, &w.mem);
	assert_int_equal(mail_route(&w.env, &a, &from, &w.mem, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(notes.count, 1);
	assert_string_equal(notes.first->name, "mail.alias_broken");
	assert_verdict(send_one("x@far.test", "both@here.test", "Subject: 1\r\n\r\n"), "250");
	assert_int_equal(steps(&w.last, "mail.alias_broken"), 1);
}

static bool told(const struct event_list *l, const char *step, const char *part)
{
	for (const struct event *e = l->first; e; e = e->next)
		for (const struct event_field *f = e->fields; f; f = f->next)
			if (strcmp(e->name, step) == 0 &&
			    span_find_span(f->value, span_str(part)) != SPAN_NPOS)
				return true;
	return false;
}

/* The same routes as without it, and why. */
static void test_explained(void **state)
{
	struct address a = addr("sales-eu@other.test"), s = addr("ann@far.test");
	struct event_list notes;
	struct mail_route_from from = { .sender = &s, .notes = &notes, .explain = true };

	domain("other.test", "here.test", "");
	alias("sales-*@here.test", "sales@here.test", "alice+x@here.test", "gone@here.test", NULL);
	alias("sales@here.test", "x@else.test", "sales-eu@here.test", NULL);
	event_list_init(&notes, &w.mem);
	assert_int_equal(mail_route(&w.env, &a, &from, &w.mem, &list, &n), 0);
	assert_int_equal(n, 2);
	assert_true(told(&notes, "domain", "alias of here.test"));
	assert_true(told(&notes, "alias", "pattern sales-*@here.test"));
	assert_true(told(&notes, "alias", "exact name sales@here.test"));
	assert_true(told(&notes, "circle", "sales-eu@here.test"));
	assert_true(told(&notes, "account", "alice@here.test"));
	assert_true(told(&notes, "srs", "=far.test=ann@mx.here.test"));
	assert_true(told(&notes, "way", "MX hosts of else.test"));
	assert_true(told(&notes, "refused", "550 5.1.1"));
	assert_true(told(&notes, "mail.alias_broken", "gone@here.test"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		T(test_kinds),	  T(test_postmaster),	 T(test_alias),
		T(test_case),	  T(test_circles),	 T(test_depth),
		T(test_too_many), T(test_catch_all),	 T(test_quota),
		T(test_srs),	  T(test_no_srs),	 T(test_bounce_comes_back),
		T(test_groups),	  T(test_domains),	 T(test_transports),
		T(test_moved),	  T(test_broken_target), T(test_explained)
	};
	return cmocka_run_group_tests_name("mail: route", tests, NULL, NULL);
}
