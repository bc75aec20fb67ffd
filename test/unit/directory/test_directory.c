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

#include "directory/directory.h"
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
	return directory_authenticate(f->d, span_str(who), span_str(password), &f->mem, &a);
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
	assert_int_equal(directory_scram_get(f->d, ann, &f->mem, &s), 0);
	assert_false(s.real);
	reopen(f);
	assert_int_equal(login(f, "ann@example.org", "moved here"), 0);
	assert_int_equal(directory_scram_get(f->d, ann, &f->mem, &s), 0);
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
	assert_int_equal(directory_scram_get(f->d, SPAN("ann@example.org"), &f->mem, &s), 0);
	assert_true(s.real);
	assert_true(s.iterations >= 4096);
	assert_int_equal(pbkdf2_sha256(SPAN("pencil"), s.salt, s.iterations, salted), 0);
	hmac_sha256(span_of(salted, 32), SPAN("Client Key"), client);
	sha256(span_of(client, 32), stored);
	assert_memory_equal(stored, s.stored_key, 32);

	assert_int_equal(directory_scram_get(f->d, SPAN("ghost@example.org"), &f->mem, &s), 0);
	assert_false(s.real);
	reopen(f); /* a made-up verifier is as stable as a real one */
	assert_int_equal(directory_scram_get(f->d, SPAN("GHOST@example.org"), &f->mem, &again), 0);
	assert_true(span_eq(s.salt, again.salt));
	assert_int_equal(s.iterations, again.iterations);
	assert_memory_equal(s.stored_key, again.stored_key, 32);
	assert_int_equal(directory_scram_get(f->d, SPAN("ghoul@example.org"), &f->mem, &again), 0);
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

/* Readers run while names come and go; TSan judges. */
static void *read_on(void *arg)
{
	struct fixture *f = arg;
	struct arena mem = { 0 };
	for (int i = 0; i < 2000; i++) {
		struct address a = { .local = SPAN("ann+x"), .domain = SPAN("example.org") };
		struct directory_match m;
		directory_lookup(f->d, &a, &mem, &m);
		assert_int_equal(m.kind, DIRECTORY_ACCOUNT);
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
	add(f, "ann@example.org", "", NULL);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, read_on, f), 0);
	for (int i = 0; i < 20; i++) {
		add(f, "bob@example.org", "", NULL);
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
		T(readers_beside_a_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
