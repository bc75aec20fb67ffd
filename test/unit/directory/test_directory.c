/* directory: names (P1), credentials (P2, P3), generations (P4), and that all of it survives a
 * restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <crypt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "directory/directory_int.h"
#include "tls/hash.h"

struct fixture {
	char dir[64], path[96];
	struct directory *d;
	struct arena mem;
};

static void reopen(struct fixture *f)
{
	struct err_info info = { 0 };
	directory_close(f->d);
	f->d = NULL;
	if (directory_open(f->path, &f->d, &info) < 0)
		fail_msg("directory_open: %s", info.text);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/test_directory.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/directory.db", f->dir);
	reopen(f);
	assert_int_equal(directory_domain_add(f->d, SPAN("Example.org"), NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];
	directory_close(f->d);
	arena_done(&f->mem);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	int r = system(cmd);
	free(f);
	return r;
}

static void add(struct fixture *f, const char *address, const char *password,
		char id[ACCOUNT_ID_LEN + 1])
{
	char scratch[ACCOUNT_ID_LEN + 1];
	struct err_info info = { 0 };
	if (directory_account_add(f->d, span_str(address), span_str(password), id ? id : scratch,
				  &info) < 0)
		fail_msg("%s: %s", address, info.text);
}

static struct directory_match look(struct fixture *f, const char *text)
{
	struct address a;
	struct directory_match m;
	assert_int_equal(address_parse(span_str(text), ADDRESS_ALLOW_UTF8, &f->mem, &a),
			 ADDRESS_OK);
	assert_int_equal(directory_lookup(f->d, &a, &f->mem, &m), 0);
	return m;
}

static bool owns(struct fixture *f, const char *id, const char *text)
{
	struct address a;
	assert_int_equal(address_parse(span_str(text), ADDRESS_ALLOW_UTF8, &f->mem, &a),
			 ADDRESS_OK);
	return directory_owns(f->d, span_str(id), &a);
}

static void alias(struct fixture *f, const char *address, const char *t1, const char *t2)
{
	span t[2] = { span_str(t1), span_str(t2) };
	assert_int_equal(directory_alias_add(f->d, span_str(address), t, t2 ? 2 : 1, NULL), 0);
}

static int login(struct fixture *f, const char *who, const char *password)
{
	struct directory_account a;
	const struct directory_try t = { .login = span_str(who),
					 .password = span_str(password),
					 .scope = DIRECTORY_IMAP,
					 .peer = SPAN("192.0.2.7") };
	return directory_authenticate(f->d, &t, &f->mem, &a);
}

static void names_are_unique(void **state)
{
	struct fixture *f = *state;
	struct err_info info;
	char id[ACCOUNT_ID_LEN + 1];
	span t = SPAN("x@elsewhere.test");
	assert_int_equal(directory_domain_add(f->d, SPAN("EXAMPLE.ORG"), &info), ERR_EXIST);
	assert_int_equal(directory_domain_add(f->d, SPAN("not a domain"), &info), ERR_INVAL);
	add(f, "Ann@Example.Org", "", NULL);
	assert_int_equal(directory_account_add(f->d, SPAN("aNN@example.org"), SPAN_NULL, id, &info),
			 ERR_EXIST);
	assert_int_equal(directory_alias_add(f->d, SPAN("ann@example.org"), &t, 1, &info),
			 ERR_EXIST);
	alias(f, "info@example.org", "ann@example.org", NULL);
	assert_int_equal(
		directory_account_add(f->d, SPAN("info@example.org"), SPAN_NULL, id, &info),
		ERR_EXIST);
	assert_int_equal(directory_account_add(f->d, SPAN("b@other.test"), SPAN_NULL, id, &info),
			 ERR_NOENT);
	assert_int_equal(directory_account_add(f->d, SPAN("nonsense"), SPAN_NULL, id, &info),
			 ERR_INVAL);
	assert_int_equal(directory_alias_add(f->d, SPAN("all@example.org"), &t, 0, &info),
			 ERR_INVAL);
	assert_int_equal(directory_domain_remove(f->d, SPAN("example.org"), &info), ERR_INVAL);
	assert_int_equal(directory_alias_remove(f->d, SPAN("ann@example.org"), &info), ERR_NOENT);
	assert_int_equal(directory_account_remove(f->d, SPAN("info@example.org"), id, &info),
			 ERR_NOENT);
	assert_int_equal(directory_alias_remove(f->d, SPAN("info@example.org"), &info), 0);
	assert_int_equal(directory_account_remove(f->d, SPAN("ann@example.org"), id, &info), 0);
	assert_int_equal(directory_domain_remove(f->d, SPAN("example.org"), &info), 0);
	assert_int_equal(look(f, "ann@example.org").kind, DIRECTORY_NOT_LOCAL);
}

static void lookup_order(void **state)
{
	struct fixture *f = *state;
	struct directory_domain v = { .catch_all = SPAN("Ann@example.org"), .subaddress = true };
	add(f, "ann@example.org", "", NULL);
	add(f, "list+owner@example.org", "", NULL);
	alias(f, "sales@example.org", "ann@example.org", "bob@elsewhere.test");

	assert_int_equal(look(f, "x@elsewhere.test").kind, DIRECTORY_NOT_LOCAL);
	assert_int_equal(look(f, "x@example.org").kind, DIRECTORY_NO_USER);
	struct directory_match m = look(f, "ANN@example.ORG");
	assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
	assert_true(span_eq_str(m.account.address, "ann@example.org"));
	assert_int_equal(m.detail.n, 0);
	m = look(f, "ann+Lists+x@example.org");
	assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
	assert_true(span_eq_str(m.detail, "Lists+x"));
	assert_int_equal(look(f, "+ann@example.org").kind, DIRECTORY_NO_USER);
	assert_int_equal(look(f, "list+owner@example.org").detail.n, 0);
	m = look(f, "sales+q@example.org");
	assert_int_equal(m.kind, DIRECTORY_ALIAS);
	assert_int_equal(m.alias.n_targets, 2);
	assert_true(span_eq_str(m.alias.targets[1], "bob@elsewhere.test"));
	assert_false(m.catch_all);

	assert_int_equal(directory_domain_set(f->d, SPAN("example.org"), &v, NULL), 0);
	m = look(f, "nobody@example.org");
	assert_int_equal(m.kind, DIRECTORY_ALIAS);
	assert_true(m.catch_all);
	assert_true(span_eq_str(m.alias.targets[0], "ann@example.org"));
	v.subaddress = false;
	assert_int_equal(directory_domain_set(f->d, SPAN("example.org"), &v, NULL), 0);
	assert_true(look(f, "ann+x@example.org").catch_all);

	assert_int_equal(directory_account_set_suspended(f->d, SPAN("ann@example.org"), true, NULL),
			 0);
	assert_int_equal(look(f, "ann@example.org").kind, DIRECTORY_SUSPENDED);
}

static void international_domain(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(directory_domain_add(f->d,
					      SPAN("b\xc3\xbc"
						   "cher.example"),
					      NULL),
			 0);
	add(f, "leser@xn--bcher-kva.example", "", NULL);
	assert_int_equal(look(f, "leser@b\xc3\xbc"
				 "cher.example")
				 .kind,
			 DIRECTORY_ACCOUNT);
	assert_int_equal(look(f, "leser@XN--BCHER-KVA.example").kind, DIRECTORY_ACCOUNT);
}

static void ownership(void **state)
{
	struct fixture *f = *state;
	char ann[ACCOUNT_ID_LEN + 1], bob[ACCOUNT_ID_LEN + 1];
	add(f, "ann@example.org", "", ann);
	add(f, "bob@example.org", "", bob);
	alias(f, "info@example.org", "team@example.org", NULL);
	alias(f, "team@example.org", "info@example.org", "ann@example.org"); /* a loop beside it */
	assert_true(owns(f, ann, "Ann@example.org"));
	assert_true(owns(f, ann, "ann+shop@example.org"));
	assert_true(owns(f, ann, "info@example.org"));
	assert_false(owns(f, bob, "info@example.org"));
	assert_false(owns(f, bob, "ann@example.org"));
	assert_false(owns(f, bob, "bob@elsewhere.test"));
	assert_false(owns(f, ann, "nobody@example.org"));
}

static void passwords(void **state)
{
	struct fixture *f = *state;
	add(f, "ann@example.org", "first secret", NULL);
	add(f, "bob@example.org", "", NULL);
	assert_int_equal(login(f, "ann@example.org", "first secret"), 0);
	assert_int_equal(login(f, "ANN", "first secret"),
			 0); /* one domain: the local part is enough */
	assert_int_equal(login(f, "ann@example.org", "first secret "), ERR_AUTH);
	assert_int_equal(login(f, "ann@example.org", ""), ERR_AUTH);
	assert_int_equal(login(f, "bob@example.org", ""), ERR_AUTH);
	assert_int_equal(login(f, "nobody@example.org", "x"), ERR_AUTH);
	assert_int_equal(login(f, "<ann@example.org>\r\n", "first secret"), ERR_AUTH);
	assert_int_equal(login(f, "", ""), ERR_AUTH);

	assert_int_equal(
		directory_account_passwd(f->d, SPAN("ann@example.org"), SPAN("second"), NULL), 0);
	assert_int_equal(login(f, "ann@example.org", "first secret"),
			 ERR_AUTH); /* not remembered (P4) */
	assert_int_equal(login(f, "ann@example.org", "second"), 0);
	assert_int_equal(
		directory_account_passwd(f->d, SPAN("ann@example.org"), SPAN("a\0b"), NULL),
		ERR_INVAL);
	reopen(f);
	assert_int_equal(login(f, "ann@example.org", "second"), 0);
	assert_int_equal(directory_account_set_suspended(f->d, SPAN("ann@example.org"), true, NULL),
			 0);
	assert_int_equal(login(f, "ann@example.org", "second"), ERR_AUTH);
	assert_int_equal(directory_domain_add(f->d, SPAN("two.test"), NULL), 0);
	assert_int_equal(
		directory_account_set_suspended(f->d, SPAN("ann@example.org"), false, NULL), 0);
	assert_int_equal(login(f, "ann", "second"), ERR_AUTH); /* two domains: ambiguous */
}

/* P3 and the memory of good passwords, counted in hashes instead of time. */
static void what_a_login_costs(void **state)
{
	struct fixture *f = *state;
	add(f, "ann@example.org", "secret", NULL);
	add(f, "bob@example.org", "", NULL);
	assert_int_equal(login(f, "ann@example.org", "secret"), 0);
	assert_int_equal(directory_hashes(f->d), 1);
	for (int i = 0; i < 20; i++)
		assert_int_equal(login(f, i % 2 ? "ANN@example.org" : "ann", "secret"), 0);
	assert_int_equal(directory_hashes(f->d), 1);
	static const char *const bad[][2] = {
		{ "ann", "wrong" },	     { "ann", "wrong" },    { "ann", "" },
		{ "bob@example.org", "x" },  { "ghost", "wrong" },  { "ghost", "" },
		{ "a@elsewhere.test", "x" }, { "not@@valid", "x" }, { "", "" }
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(login(f, bad[i][0], bad[i][1]), ERR_AUTH);
		assert_int_equal(directory_hashes(f->d), 2 + i); /* one each, whatever was wrong */
	}
	assert_int_equal(directory_account_set_suspended(f->d, SPAN("ann@example.org"), true, NULL),
			 0);
	assert_int_equal(login(f, "ann@example.org", "secret"), ERR_AUTH);
	assert_int_equal(
		directory_account_set_suspended(f->d, SPAN("ann@example.org"), false, NULL), 0);
	uint64_t before = directory_hashes(f->d);
	assert_int_equal(login(f, "ann@example.org", "secret"), 0);
	assert_int_equal(directory_hashes(f->d),
			 before + 1); /* an older generation's memory is void (P4) */
}

static void imported_hashes(void **state)
{
	struct fixture *f = *state;
	struct crypt_data data = { 0 };
	struct err_info info;
	struct directory_scram s;
	char prefixed[256];
	add(f, "ann@example.org", "", NULL);
	span ann = SPAN("ann@example.org");
	assert_int_equal(directory_account_import_hash(f->d, ann, SPAN("plain text"), &info),
			 ERR_INVAL);
	assert_int_equal(directory_account_import_hash(f->d, ann, SPAN("$nope$x"), &info),
			 ERR_INVAL);
	assert_int_equal(directory_account_import_hash(f->d, ann, SPAN("$argon2id$v=19"), &info),
			 ERR_INVAL);
	snprintf(prefixed, sizeof(prefixed), "{SHA512-CRYPT}%s",
		 crypt_r("moved here", "$6$rounds=1000$saltsalt", &data));
	assert_int_equal(directory_account_import_hash(f->d, ann, span_str(prefixed), &info), 0);
	assert_int_equal(login(f, "ann@example.org", "other"), ERR_AUTH);
	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, ann, &f->mem, &s), 0);
	assert_false(s.real);
	reopen(f);
	assert_int_equal(login(f, "ann@example.org", "moved here"), 0);
	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, ann, &f->mem, &s), 0);
	assert_true(s.real); /* the good login made our own credential */
	reopen(f);
	assert_int_equal(login(f, "ann@example.org", "other"), ERR_AUTH);
	assert_int_equal(login(f, "ann@example.org", "moved here"), 0);
}

static void scram_verifier(void **state)
{
	struct fixture *f = *state;
	struct directory_scram s, again;
	uint8_t salted[32], client[32], stored[32];
	add(f, "ann@example.org", "pencil", NULL);
	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, SPAN("ann@example.org"), &f->mem, &s), 0);
	assert_true(s.real);
	assert_true(s.iterations >= 4096);
	assert_int_equal(pbkdf2_sha256(SPAN("pencil"), s.salt, s.iterations, salted), 0);
	hmac_sha256(span_of(salted, 32), SPAN("Client Key"), client);
	sha256(span_of(client, 32), stored);
	assert_memory_equal(stored, s.stored_key, 32);

	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, SPAN("ghost@example.org"), &f->mem, &s), 0);
	assert_false(s.real);
	reopen(f); /* a made-up verifier is as stable as a real one */
	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, SPAN("GHOST@example.org"), &f->mem, &again), 0);
	assert_true(span_eq(s.salt, again.salt));
	assert_int_equal(s.iterations, again.iterations);
	assert_memory_equal(s.stored_key, again.stored_key, 32);
	assert_int_equal(directory_scram_get(f->d, HASH_SHA256, SPAN("ghoul@example.org"), &f->mem, &again), 0);
	assert_false(span_eq(s.salt, again.salt));
}

static void generations_rise(void **state)
{
	struct fixture *f = *state;
	struct directory_account a, b;
	span ann = SPAN("ann@example.org");
	add(f, "ann@example.org", "", NULL);
	assert_int_equal(directory_account_get(f->d, ann, &f->mem, &a), 0);
	assert_int_equal(directory_account_set_quota(f->d, ann, 1 << 30, NULL), 0);
	assert_int_equal(directory_account_set_from(f->d, ann, FROM_ANY, NULL), 0);
	assert_int_equal(directory_account_by_id(f->d, span_str(a.id), &f->mem, &b), 0);
	assert_true(b.generation == a.generation + 2);
	reopen(f);
	assert_int_equal(directory_account_by_id(f->d, span_str(a.id), &f->mem, &b), 0);
	assert_true(b.generation == a.generation + 2);
	assert_int_equal(b.quota_bytes, 1 << 30);
	assert_int_equal(b.from, FROM_ANY);
	assert_true(span_eq(b.address, ann));
}

static void listings_survive_a_restart(void **state)
{
	struct fixture *f = *state;
	struct directory_domain *domains;
	struct directory_account *accounts;
	struct directory_alias *aliases;
	struct directory_domain v = { .catch_all = SPAN("b@example.org"), .from = FROM_OWNED };
	size_t n;
	assert_int_equal(directory_domain_add(f->d, SPAN("a.test"), NULL), 0);
	assert_int_equal(directory_domain_set(f->d, SPAN("a.test"), &v, NULL), 0);
	add(f, "b@example.org", "", NULL);
	add(f, "a@example.org", "", NULL);
	add(f, "c@a.test", "", NULL);
	alias(f, "x@a.test", "one@far.test", "two@far.test");
	alias(f, "\"odd name\"@a.test", "one@far.test", NULL);
	reopen(f);
	assert_int_equal(directory_domains(f->d, &f->mem, &domains, &n), 0);
	assert_int_equal(n, 2);
	assert_true(span_eq_str(domains[0].name, "a.test"));
	assert_true(span_eq_str(domains[0].catch_all, "b@example.org"));
	assert_int_equal(domains[0].from, FROM_OWNED);
	assert_false(domains[0].subaddress);
	assert_int_equal(directory_accounts(f->d, SPAN_NULL, &f->mem, &accounts, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(directory_accounts(f->d, SPAN("Example.org"), &f->mem, &accounts, &n), 0);
	assert_int_equal(n, 2);
	assert_true(span_eq_str(accounts[0].address, "a@example.org"));
	assert_int_equal(directory_accounts(f->d, SPAN("no.test"), &f->mem, &accounts, &n),
			 ERR_NOENT);
	assert_int_equal(directory_aliases(f->d, SPAN("a.test"), &f->mem, &aliases, &n), 0);
	assert_int_equal(n, 2);
	assert_true(span_eq_str(aliases[1].targets[1], "two@far.test"));
	assert_int_equal(look(f, "\"odd name\"@a.test").kind, DIRECTORY_ALIAS);
}

static void pattern(struct fixture *f, const char *address, const char *target, int priority)
{
	span t = span_str(target);
	struct directory_alias v = {
		.address = span_str(address), .targets = &t, .n_targets = 1, .priority = priority
	};
	struct err_info info = { 0 };
	if (directory_alias_make(f->d, &v, &info) < 0)
		fail_msg("%s: %s", address, info.text);
}

#define assert_target(f, address, want)                                                       \
	do {                                                                                  \
		struct directory_match found = look((f), (address));                          \
		assert_int_equal(found.kind, DIRECTORY_ALIAS);                                \
		assert_string_equal(arena_span(&(f)->mem, found.alias.targets[0]).p, (want)); \
	} while (0)

/* Exact, without detail, by priority, the longest, "*", the domain's catch-all. */
static void patterns(void **state)
{
	struct fixture *f = *state;
	struct directory_domain v = { .catch_all = SPAN("last@far.test"), .subaddress = true };
	span t = SPAN("x@far.test");
	add(f, "sales-ann@example.org", "", NULL);
	add(f, "ann@example.org", "", NULL);
	pattern(f, "sales-*@example.org", "sales@far.test", 0);
	pattern(f, "Sales-e*@example.org", "east@far.test", 0);
	pattern(f, "*-urgent@example.org", "urgent@far.test", 5);
	pattern(f, "a*z@example.org", "az@far.test", 0);
	pattern(f, "low*@example.org", "low@far.test", -1);
	pattern(f, "lo*@example.org", "high@far.test", 0);
	assert_int_equal(directory_domain_set(f->d, SPAN("example.org"), &v, NULL), 0);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(look(f, "sales-ann@example.org").kind, DIRECTORY_ACCOUNT);
		assert_int_equal(look(f, "sales-ann+x-urgent@example.org").kind, DIRECTORY_ACCOUNT);
		assert_target(f, "SALES-x@example.org", "sales@far.test");
		assert_target(f, "sales-@example.org", "sales@far.test");
		assert_target(f, "sales-eu@example.org", "east@far.test");
		assert_target(f, "sales-eu-urgent@example.org", "urgent@far.test");
		assert_target(f, "az@example.org", "az@far.test");
		assert_target(f, "a-z@example.org", "az@far.test");
		assert_target(f, "lower@example.org", "high@far.test");
		assert_target(f, "a@example.org", "last@far.test");
		assert_true(look(f, "sales@example.org").catch_all);
		reopen(f);
	}
	pattern(f, "*@example.org", "rest@far.test", 0);
	assert_target(f, "a@example.org", "rest@far.test");
	assert_target(f, "sales-x@example.org", "sales@far.test");
	assert_int_equal(directory_alias_remove(f->d, SPAN("sales-*@example.org"), NULL), 0);
	assert_target(f, "sales-x@example.org", "rest@far.test");

	struct directory_alias bad = { .address = SPAN("a*b*@example.org"),
				       .targets = &t,
				       .n_targets = 1 };
	assert_int_equal(directory_alias_make(f->d, &bad, NULL), ERR_INVAL);
	bad.address = SPAN("exact@example.org");
	bad.priority = 1;
	assert_int_equal(directory_alias_make(f->d, &bad, NULL), ERR_INVAL);
	bad.address = SPAN("p*@example.org");
	bad.priority = DIRECTORY_PRIORITY_MAX + 1;
	assert_int_equal(directory_alias_make(f->d, &bad, NULL), ERR_INVAL);
	char id[ACCOUNT_ID_LEN + 1];
	assert_int_equal(directory_account_add(f->d, SPAN("x*@example.org"), SPAN_NULL, id, NULL),
			 ERR_INVAL);
	char name[40];
	for (int i = 6; i < DIRECTORY_PATTERNS_MAX; i++) {
		snprintf(name, sizeof(name), "n%d-*@example.org", i);
		pattern(f, name, "x@far.test", 0);
	}
	bad.priority = 0;
	assert_int_equal(directory_alias_make(f->d, &bad, NULL), ERR_INVAL);
}

static void alias_domains(void **state)
{
	struct fixture *f = *state;
	struct directory_domain v = { .name = SPAN("example.net"),
				      .alias_of = SPAN("EXAMPLE.org") };
	struct directory_domain plain = { .subaddress = true };
	char id[ACCOUNT_ID_LEN + 1];
	span t = SPAN("x@far.test");
	add(f, "ann@example.org", "", id);
	alias(f, "info@example.org", "ann@example.org", NULL);
	assert_int_equal(directory_domain_make(f->d, &v, NULL), 0);
	for (int again = 0; again < 2; again++) {
		struct directory_match m = look(f, "Ann+x@example.NET");
		assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
		assert_true(span_eq_str(m.account.address, "ann@example.org"));
		assert_true(span_eq_str(m.domain, "example.org"));
		assert_int_equal(look(f, "ann@example.org").domain.n, 0);
		assert_true(span_eq_str(m.detail, "x"));
		assert_int_equal(look(f, "info@example.net").kind, DIRECTORY_ALIAS);
		assert_int_equal(look(f, "nobody@example.net").kind, DIRECTORY_NO_USER);
		assert_true(owns(f, id, "ann@example.net"));
		reopen(f);
	}
	assert_int_equal(directory_account_add(f->d, SPAN("b@example.net"), SPAN_NULL, id, NULL),
			 ERR_INVAL);
	assert_int_equal(directory_alias_add(f->d, SPAN("b@example.net"), &t, 1, NULL), ERR_INVAL);
	v.name = SPAN("third.test");
	v.alias_of = SPAN("example.net"); /* no chains */
	assert_int_equal(directory_domain_make(f->d, &v, NULL), ERR_INVAL);
	v.alias_of = SPAN("far.test");
	assert_int_equal(directory_domain_make(f->d, &v, NULL), ERR_NOENT);
	assert_int_equal(directory_domain_add(f->d, SPAN("third.test"), NULL), 0);
	v.alias_of = SPAN("third.test");
	assert_int_equal(directory_domain_set(f->d, SPAN("example.org"), &v, NULL), ERR_INVAL);
	assert_int_equal(directory_domain_set(f->d, SPAN("third.test"), &v, NULL), ERR_INVAL);
	assert_int_equal(directory_alias_remove(f->d, SPAN("info@example.org"), NULL), 0);
	assert_int_equal(directory_account_remove(f->d, SPAN("ann@example.org"), id, NULL), 0);
	assert_int_equal(directory_domain_remove(f->d, SPAN("example.org"), NULL), ERR_INVAL);
	assert_int_equal(directory_domain_set(f->d, SPAN("example.net"), &plain, NULL), 0);
	assert_int_equal(directory_domain_remove(f->d, SPAN("example.org"), NULL), 0);
}

static void elsewhere(void **state)
{
	struct fixture *f = *state;
	struct directory_domain v = { .name = SPAN("moving.test"),
				      .subaddress = true,
				      .unknown_to = SPAN("smtp:[192.0.2.1]:25") };
	assert_int_equal(directory_domain_make(f->d, &v, NULL), 0);
	add(f, "here@moving.test", "", NULL);
	alias(f, "listed@moving.test", "listed@moving.test", NULL);
	alias(f, "out@moving.test", "x@far.test", NULL);
	reopen(f);
	assert_int_equal(look(f, "here@moving.test").kind, DIRECTORY_ACCOUNT);
	assert_int_equal(look(f, "out@moving.test").kind, DIRECTORY_ALIAS);
	struct directory_match m = look(f, "there@moving.test");
	assert_int_equal(m.kind, DIRECTORY_ELSEWHERE);
	assert_true(span_eq_str(m.elsewhere, "smtp:[192.0.2.1]:25"));
	assert_int_equal(look(f, "listed@moving.test").kind, DIRECTORY_ELSEWHERE);
	v.known_only = true;
	assert_int_equal(directory_domain_set(f->d, SPAN("moving.test"), &v, NULL), 0);
	reopen(f);
	assert_int_equal(look(f, "there@moving.test").kind, DIRECTORY_NO_USER);
	assert_int_equal(look(f, "Listed+x@moving.test").kind, DIRECTORY_ELSEWHERE);
	v.catch_all = SPAN("here@moving.test");
	assert_int_equal(directory_domain_set(f->d, SPAN("moving.test"), &v, NULL), ERR_INVAL);
	v.catch_all = v.unknown_to = SPAN_NULL;
	assert_int_equal(directory_domain_set(f->d, SPAN("moving.test"), &v, NULL), ERR_INVAL);
}

static bool member(struct fixture *f, const char *list, const char *who)
{
	struct address a;
	assert_int_equal(address_parse(span_str(who), ADDRESS_ALLOW_UTF8, &f->mem, &a), ADDRESS_OK);
	return directory_is_member(f->d, span_str(list), &a);
}

static void members(void **state)
{
	struct fixture *f = *state;
	struct directory_alias v;
	span t[] = { SPAN("all@example.org"), SPAN("carol@far.test") };
	add(f, "ann@example.org", "", NULL);
	add(f, "bob@example.org", "", NULL);
	alias(f, "inner@example.org", "ann@example.org", "outer@example.org");
	alias(f, "outer@example.org", "inner@example.org", "carol@far.test");
	assert_true(member(f, "outer@example.org", "Carol@far.test"));
	assert_true(member(f, "outer@example.org", "ann+x@example.org"));
	assert_false(member(f, "outer@example.org", "bob@example.org"));
	assert_false(member(f, "outer@example.org", "x@far.test"));
	assert_false(member(f, "ann@example.org", "ann@example.org"));
	assert_int_equal(directory_alias_get(f->d, SPAN("Inner@example.org"), &f->mem, &v), 0);
	v.targets = t;
	v.senders = SENDERS_MEMBERS;
	assert_int_equal(directory_alias_set(f->d, &v, NULL), 0);
	reopen(f);
	assert_int_equal(directory_alias_get(f->d, SPAN("inner@example.org"), &f->mem, &v), 0);
	assert_int_equal(v.senders, SENDERS_MEMBERS);
	assert_true(v.n_targets == 2 && span_eq_str(v.targets[0], "all@example.org"));
	assert_false(member(f, "outer@example.org", "ann@example.org"));
	v.address = SPAN("nobody@example.org");
	assert_int_equal(directory_alias_set(f->d, &v, NULL), ERR_NOENT);
}

static void srs_keys(void **state)
{
	struct fixture *f = *state;
	uint8_t first[DIRECTORY_SRS_KEYS][32], second[DIRECTORY_SRS_KEYS][32];
	assert_int_equal(directory_srs_keys(f->d, first), 1);
	reopen(f);
	assert_int_equal(directory_srs_keys(f->d, second), 1);
	assert_memory_equal(first, second, 32);
	assert_int_equal(directory_srs_rotate(f->d, NULL), 0);
	reopen(f);
	assert_int_equal(directory_srs_keys(f->d, second), 2);
	assert_memory_equal(second[1], first[0], 32);
	assert_memory_not_equal(second[0], first[0], 32);
}

/* What one look-up compares does not grow with the names: counted, not timed. */
static int fill(struct db_tx *tx, void *arg)
{
	char name[64], id[32];
	int r = 0;
	for (int i = 0; r >= 0 && i < 10000; i++) {
		snprintf(name, sizeof(name), "user%d@example.org", i);
		snprintf(id, sizeof(id), "%016x", i);
		r = db_run(tx, "INSERT INTO name(address, domain) VALUES(?, 'example.org')", "s",
			   span_str(name));
		if (r >= 0)
			r = db_run(tx, "INSERT INTO account VALUES(?, ?, 1, 0, 0, 0, 0)", "ss",
				   span_str(id), span_str(name));
		snprintf(name, sizeof(name), "alias%d@example.org", i);
		if (r >= 0)
			r = db_run(tx, "INSERT INTO name(address, domain) VALUES(?, 'example.org')",
				   "s", span_str(name));
		if (r >= 0)
			r = db_run(tx, "INSERT INTO alias_target VALUES(?, 0, 'x@far.test')", "s",
				   span_str(name));
	}
	return r;
}

static void many_names(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 100; i++) {
		char name[40];
		snprintf(name, sizeof(name), "p%d-*@example.org", i);
		pattern(f, name, "x@far.test", i);
	}
	assert_int_equal(db_write(f->d->db, fill, NULL), 0);
	reopen(f);
	struct directory_account *accounts;
	size_t n;
	assert_int_equal(directory_accounts(f->d, SPAN_NULL, &f->mem, &accounts, &n), 0);
	assert_int_equal(n, 10000);
	struct directory_match m = look(f, "user9999@example.org");
	assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
	assert_int_equal(m.probes, 2);
	assert_int_equal(look(f, "alias5000@example.org").probes, 2);
	assert_int_equal(look(f, "user77+x@example.org").probes, 3);
	m = look(f, "p0-x@example.org");
	assert_int_equal(m.kind, DIRECTORY_ALIAS);
	assert_int_equal(m.probes, 102);
	assert_int_equal(look(f, "nobody@example.org").probes, 102);
}

/* Readers run while names come and go; TSan judges. */
static void *read_on(void *arg)
{
	struct fixture *f = arg;
	struct arena mem = { 0 };
	for (int i = 0; i < 2000; i++) {
		struct address a = { .local = SPAN("ann+x"), .domain = SPAN("example.org") };
		struct address fits = { .local = SPAN("sales-eu"), .domain = SPAN("example.net") };
		struct directory_match m;
		directory_lookup(f->d, &a, &mem, &m);
		assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
		directory_lookup(f->d, &fits, &mem, &m);
		assert_true(m.kind == DIRECTORY_ALIAS || m.kind == DIRECTORY_NO_USER);
		directory_is_member(f->d, SPAN("sales-*@example.org"), &a);
		directory_owns(f->d, SPAN("0123456789abcdef"), &a);
		arena_reset(&mem);
	}
	arena_done(&mem);
	return NULL;
}

static void readers_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	pthread_t t[2];
	char id[ACCOUNT_ID_LEN + 1];
	struct directory_domain other = { .name = SPAN("example.net"),
					  .alias_of = SPAN("example.org") };
	add(f, "ann@example.org", "", NULL);
	assert_int_equal(directory_domain_make(f->d, &other, NULL), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_on, f), 0);
	for (int i = 0; i < 20; i++) {
		add(f, "bob@example.org", "", NULL);
		pattern(f, "sales-*@example.org", "ann@example.org", i);
		assert_int_equal(directory_alias_remove(f->d, SPAN("sales-*@example.org"), NULL),
				 0);
		assert_int_equal(directory_account_set_quota(f->d, SPAN("ann@example.org"),
							     (uint64_t)i, NULL),
				 0);
		assert_int_equal(directory_account_remove(f->d, SPAN("bob@example.org"), id, NULL),
				 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(names_are_unique),
		T(lookup_order),
		T(international_domain),
		T(ownership),
		T(passwords),
		T(what_a_login_costs),
		T(imported_hashes),
		T(scram_verifier),
		T(generations_rise),
		T(listings_survive_a_restart),
		T(patterns),
		T(alias_domains),
		T(elsewhere),
		T(members),
		T(srs_keys),
		T(many_names),
		T(readers_beside_a_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
