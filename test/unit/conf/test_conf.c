/* The configuration: what a file may say, where it is told wrong, and that what is shown reads the
 * same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "conf/conf.h"
#include "format/json.h"

#define HOST "server: {hostname: mx.example.org}\n"

static struct conf *good(const char *text)
{
	struct err_info info = { 0 };
	struct conf *c = NULL;
	int e = conf_parse(span_str(text), "f", &c, &info);

	if (e < 0)
		fail_msg("%s\n%s", text, info.text);
	return c;
}

/* TEXT is refused with exactly WHY. */
static void bad(const char *text, const char *why)
{
	struct err_info info = { 0 };
	struct conf *c = NULL;

	if (conf_parse(span_str(text), "f", &c, &info) >= 0)
		fail_msg("accepted: %s", text);
	assert_null(c);
	assert_string_equal(info.text, why);
}

static void assert_span(span s, const char *want)
{
	if (!span_eq_str(s, want))
		fail_msg("\"%.*s\" is not \"%s\"", SPAN_FMT(s), want);
}

static void test_defaults(void **state)
{
	struct conf *c = good(HOST);

	assert_span(c->hostname, "mx.example.org");
	assert_span(c->data_dir, "/var/lib/postrider");
	assert_span(c->user_front, "postrider-front");
	assert_int_equal(c->listeners[0].n, 1);
	assert_span(c->listeners[0].addresses[0], "[::]:25");
	assert_true(c->listeners[2].implicit_tls);
	assert_int_equal(c->listeners[2].proto, SESS_PROTO_SUBMISSION);
	assert_int_equal(c->max_message, 50 * 1024 * 1024);
	assert_int_equal(c->max_rcpts, 1000);
	assert_int_equal(c->imap_timeout, 1800 * USEC_SEC);
	assert_int_equal(c->retry_lifetime, 5 * 86400 * USEC_SEC);
	assert_int_equal(c->warn_after, 4 * 3600 * USEC_SEC);
	assert_int_equal(c->submission_from, CONF_FROM_OWNED);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_true(c->relay_ipv6);
	assert_false(c->lab);
	assert_int_equal(c->n_certs, 0);
	assert_int_equal(c->n_retry_rules, 3);
	assert_span(c->retry_rules[0].match, "greylist");
	assert_int_equal(c->retry_rules[0].first, 120 * USEC_SEC);
	assert_int_equal(c->retry_rules[1].factor, 0);
	assert_int_equal(c->retry_rules[2].min_priority, 4);
	conf_unref(c);
}

static void test_values(void **state)
{
	struct conf *c = good(
		"server:\n  hostname: no\n  data: \"/x y/\\\"z\\\"/\xc3\xa9\"\n"
		"  user: {front: 'nobody', keys: \"7\"}\n"
		"listen:\n  smtp: ['127.0.0.1:2525', \"[::1]:2525\"]\n  imap: []\n"
		"  pop3: ':1110'\n"
		"limits: {message: 2G, recipients: 100, smtp_idle: 1h30m}\n"
		"store: {inline: 64k}\n"
		"relay: {ipv6: no, port: 65535, source: 192.0.2.1}\n"
		"submission: {from: any}\nlog: {level: alarm, format: json}\n"
		"dns: {forward: 192.0.2.1@53, allow_local: true}\n"
		"queue: {rules: [{match: 4.7.1, first: 1m}, {match: '421', lifetime: 1d, factor: "
		"300}]}\n"
		"tls: {certificates: [{chain: /a, key: /b}, {key: /d, chain: /c}]}\n");

	assert_span(c->hostname, "no"); /* nothing is guessed from how a word looks */
	assert_span(c->data_dir, "/x y/\"z\"/\xc3\xa9");
	assert_span(c->user_front, "nobody");
	assert_span(c->user_keys, "7");
	assert_span(c->user_core, "postrider");
	assert_int_equal(c->listeners[0].n, 2);
	assert_span(c->listeners[0].addresses[1], "[::1]:2525");
	assert_int_equal(c->listeners[3].n, 0);
	assert_span(c->listeners[5].addresses[0], ":1110");
	assert_int_equal(c->max_message, 2147483648u);
	assert_int_equal(c->inline_max, 65536);
	assert_int_equal(c->smtp_timeout, 5400 * USEC_SEC);
	assert_false(c->relay_ipv6);
	assert_int_equal(c->relay_port, 65535);
	assert_int_equal(c->submission_from, CONF_FROM_ANY);
	assert_int_equal(c->log_level, LOG_ALARM);
	assert_int_equal(c->log_format, LOG_JSON);
	assert_true(c->dns_allow_local);
	assert_int_equal(c->n_certs, 2);
	assert_span(c->certs[1].chain_file, "/c");
	assert_span(c->certs[1].key_file, "/d");
	assert_int_equal(c->n_retry_rules, 2);
	assert_span(c->retry_rules[0].match, "4.7.1");
	assert_int_equal(c->retry_rules[0].first, 60 * USEC_SEC);
	assert_int_equal(c->retry_rules[1].lifetime, 86400 * USEC_SEC);
	assert_int_equal(c->retry_rules[1].factor, 300);
	conf_unref(c);
}

/* Each type's complaint, at its line and column. */
static void test_wrong_values(void **state)
{
	bad(HOST "relay: {ipv6: maybe}", "f:2:15: relay.ipv6: expected yes or no");
	bad(HOST "relay:\n  port: 0", "f:3:9: relay.port: expected a number from 1 to 65535");
	bad(HOST "relay:\n  port: 65536", "f:3:9: relay.port: expected a number from 1 to 65535");
	bad(HOST "relay:\n  port: -1", "f:3:9: relay.port: expected a number from 1 to 65535");
	bad(HOST "relay:\n  port: [25]", "f:3:9: relay.port: expected a number from 1 to 65535");
	bad(HOST "relay:\n  port:", "f:3:8: relay.port: expected a number from 1 to 65535");
	bad(HOST "limits: {message: 3G}",
	    "f:2:19: limits.message: expected a size such as 50M, from 1K to 2G");
	bad(HOST "limits: {message: 99999999999999999999}",
	    "f:2:19: limits.message: expected a size such as 50M, from 1K to 2G");
	bad(HOST "limits: {message: 17179869185G}",
	    "f:2:19: limits.message: expected a size such as 50M, from 1K to 2G");
	bad(HOST "limits: {message: 5X}",
	    "f:2:19: limits.message: expected a size such as 50M, from 1K to 2G");
	bad(HOST "limits: {smtp_idle: 9s}",
	    "f:2:21: limits.smtp_idle: expected a time such as 5m, from 10s to 1d");
	bad(HOST "limits: {smtp_idle: soon}",
	    "f:2:21: limits.smtp_idle: expected a time such as 5m, from 10s to 1d");
	bad(HOST "submission: {from: all}", "f:2:20: submission.from: expected one of owned|any");
	bad(HOST "listen: {smtp: ['127.0.0.1:25', here]}",
	    "f:2:33: listen.smtp: expected a list of ADDRESS:PORT, such as [\"[::]:25\"]");
	bad(HOST "listen: {smtp: {a: b}}",
	    "f:2:16: listen.smtp: expected a list of ADDRESS:PORT, such as [\"[::]:25\"]");
	bad(HOST "tls: {certificates: /a}",
	    "f:2:21: tls.certificates: expected a list of maps {chain, key}");
	bad(HOST "tls: {certificates: [{chain: /a}]}", "f:2:22: tls.certificates: key is missing");
	bad(HOST "tls: {certificates: [{chain: /a, chain: /b, key: /c}]}",
	    "f:2:34: tls.certificates: chain is given twice");
	bad(HOST "tls: {certificates: [{cert: /a}]}",
	    "f:2:23: tls.certificates: expected a list of maps {chain, key}");
	bad(HOST "queue: {rules: [{first: 1m}]}", "f:2:17: queue.rules: match is missing");
	bad(HOST "queue: {rules: [{match: any, factor: 1001}]}",
	    "f:2:38: queue.rules: factor: expected a number from 0 to 1000");
	bad(HOST "queue: {rules: [{match: grey}]}",
	    "f:2:16: queue.rules: expected a match of any, greylist, mailbox_full, connect, dns, "
	    "tls, a reply code (421) or an enhanced one (4.7.1)");
	bad(HOST "queue: {rules: [{match: any, first: 5h}]}",
	    "f:2:16: queue.rules: expected first to be no more than max");
	bad(HOST "relay: {hosts: [{name: a b, host: h}]}",
	    "f:2:16: relay.hosts: expected names of letters, digits, \"-\", \"_\" and \".\", at "
	    "most "
	    "64");
	bad(HOST "relay: {hosts: [{name: a, host: h}, {name: a, host: i}]}",
	    "f:2:16: relay.hosts: expected each name once");
	bad(HOST "relay: {hosts: [{name: a, host: h, tls: maybe}]}",
	    "f:2:41: relay.hosts: tls: expected one of none|may|must|verify|implicit");
	bad(HOST "relay: {hosts: [{name: a, host: h, user: u}]}",
	    "f:2:16: relay.hosts: expected user and password_file together");
	bad(HOST "relay: {hosts: [{name: a, host: h, port: 0}]}",
	    "f:2:42: relay.hosts: port: expected a number from 1 to 65535");
	bad(HOST "relay: {routes: [{domain: a b, to: mx}]}",
	    "f:2:17: relay.routes: expected a domain such as example.org, .example.org or * "
	    "(other scripts as xn--...)");
	bad(HOST "relay: {routes: [{sender: ann, to: mx}]}",
	    "f:2:17: relay.routes: expected a sender such as user@example.org or @example.org");
	bad(HOST "relay: {routes: [{to: \"via:gone\"}]}",
	    "f:2:17: relay.routes: expected to as mx, smtp:[HOST]:PORT, lmtp:[HOST]:PORT, "
	    "smtp:DOMAIN, via:NAME with a name of relay.hosts, or \"refuse: TEXT\"");
	bad(HOST "relay: {routes: [{domain: a.test}]}", "f:2:18: relay.routes: to is missing");
	bad(HOST "forward: {srs_domain: A.test}",
	    "f:2:23: forward.srs_domain: expected a domain in lower case whose mail arrives here, "
	    "or nothing");
	bad("server: {hostname: mx.example.org, data: \"/a\\nb\"}",
	    "f:1:42: server.data: expected a line of text");
	bad("server: {hostname: mx.example.org, data: \"/a\\0b\"}",
	    "f:1:42: server.data: expected a line of text");
}

static void test_relay_hosts(void **state)
{
	struct conf *c = good(HOST
			      "relay: {hosts: [{name: a, host: 127.0.0.1}, {port: 24, lmtp: yes, "
			      "name: b.1, host: h.test, tls: none, user: u, "
			      "password_file: /p}]}");
	_cleanup_(buf_donep) struct buf text = BUF_INIT(1 << 20), json = BUF_INIT(1 << 20);
	const struct conf_relay_host *b = conf_relay_host(c, SPAN("b.1"));

	assert_null(conf_relay_host(c, SPAN("c")));
	assert_int_equal(conf_relay_host(c, SPAN("a"))->tls, CONF_RELAY_TLS_VERIFY);
	assert_int_equal(conf_relay_host(c, SPAN("a"))->port, 25);
	assert_true(b->lmtp && b->port == 24 && b->tls == CONF_RELAY_TLS_NONE);
	conf_set_password(c, SPAN("/p"), SPAN("hidden"));
	assert_true(span_eq_str(b->password, "hidden"));
	assert_int_equal(conf_show(c, &text), 0);
	assert_int_equal(conf_show_json(c, &json), 0);
	assert_non_null(strstr(buf_cstr(&text),
			       "{name: \"b.1\", host: \"h.test\", port: 24, tls: none, "
			       "lmtp: yes, user: \"u\", password_file: \"/p\"}"));
	assert_non_null(strstr(buf_cstr(&json), "\"port\":24"));
	assert_null(strstr(buf_cstr(&text), "hidden"));
	assert_null(strstr(buf_cstr(&json), "hidden"));
	conf_unref(c);
}

static void test_wrong_keys(void **state)
{
	bad(HOST "relay: {prot: 25}",
	    "f:2:9: unknown key \"relay.prot\" (postrider config show lists all)");
	bad(HOST "Relay: {port: 25}",
	    "f:2:1: unknown key \"Relay\" (postrider config show lists all)");
	bad(HOST "relay.port: 25\nrelay: {port: 26}", "f:3:9: relay.port is given twice");
	bad(HOST "relay: {port: 25, port: 26}", "f:2:19: relay.port is given twice");
	bad(HOST "server: {data: /x, hostname: mx.example.com}",
	    "f:2:20: server.hostname is given twice");
	bad(HOST "relay: 25", "f:2:8: expected a section with keys and values");
	bad(HOST "relay: [a]", "f:2:8: expected a section with keys and values");
	bad("- a", "f:1:1: expected a section with keys and values");
	bad("just words", "f:1:1: expected a section with keys and values");
	bad(HOST "? [a]\n: b", "f:2:3: expected a key");
	bad("server: &a {user: {front: x, user: *a}}",
	    "f:1:30: unknown key \"server.user.user\" (postrider config show lists all)");
	bad(HOST "\"a\\x01\\\"b\": 1",
	    "f:2:1: unknown key \"a\\x01\\\"b\" (postrider config show lists all)");
}

static void test_whole(void **state)
{
	bad("", "f:1:1: server.hostname: expected this server's full name in lower case, such as "
		"mx.example.org");
	bad("# nothing\n", "f:1:1: server.hostname: expected this server's full name in lower "
			   "case, such as mx.example.org");
	bad("server: {hostname: MX.example.org}",
	    "f:1:20: server.hostname: expected this server's full name in lower case, such as "
	    "mx.example.org");
	bad("server: {hostname: a..b}",
	    "f:1:20: server.hostname: expected this server's full name in lower case, such as "
	    "mx.example.org");
	bad("server: {hostname: a, data: var}", "f:1:29: server.data: expected an absolute path");
	bad(HOST "relay: {source: here}",
	    "f:2:17: relay.source: expected an IP address of this host, or nothing");
	bad(HOST "dns: {forward: 192.0.2.1}",
	    "f:2:16: dns.forward: expected ADDRESS@PORT, or nothing");
	bad(HOST "dns: {stub: 192.0.2.1@53}",
	    "f:1:1: dns.stub_zone: expected to be given together with dns.stub");
	bad(HOST "queue: {retry_first: 2h, retry_max: 1h}",
	    "f:2:22: queue.retry_first: expected no more than queue.retry_max");
}

static void test_not_yaml(void **state)
{
	struct err_info info = { 0 };
	struct conf *c = NULL;
	_cleanup_(freep) char *big = NULL;

	bad(HOST "relay: {", "f:3:1: not valid YAML: did not find expected node content");
	bad(HOST "\tx: 1", "f:2:1: not valid YAML: found character that cannot start any token");
	bad("server: {hostname: \"\xff\"}", "f:1:1: not valid YAML: invalid leading UTF-8 octet");
	bad(HOST "---\nrelay: {port: 26}\n",
	    "f:3:1: expected the end: a file is one YAML document");
	/* 64 KiB are a file, one more byte is none. */
	big = xmalloc(CONF_MAX_TEXT + 2);
	memset(big, '#', CONF_MAX_TEXT + 1);
	memcpy(big, HOST, sizeof HOST - 1);
	assert_int_equal(conf_parse(span_of(big, CONF_MAX_TEXT), "f", &c, &info), 0);
	conf_unref(c);
	c = NULL;
	assert_int_equal(conf_parse(span_of(big, CONF_MAX_TEXT + 1), "f", &c, &info), ERR_TOOBIG);
	assert_string_equal(info.text, "f:1:1: the file is larger than 64 KiB");
	/* Depth costs neither stack nor time. */
	memset(big, '[', CONF_MAX_TEXT);
	assert_true(conf_parse(span_of(big, CONF_MAX_TEXT), "f", &c, &info) < 0);
	assert_string_equal(info.text, "f:1:17: nested too deep");
	assert_null(c);
}

static void shown(const struct conf *c, struct buf *b)
{
	*b = BUF_INIT(1024 * 1024);
	assert_int_equal(conf_show(c, b), 0);
}

/* conf_show() of what conf_show() gave is the same, for each option at another value. */
static void test_round_trip(void **state)
{
	static const char *const texts[] = {
		HOST,
		HOST "tls: {certificates: [{chain: \"/a \\\\ \\\" b\", key: \"/\xc3\xa9: #\"}]}",
		HOST "listen: {smtp: [], imap: ['127.0.0.1:1', ':2']}\nlimits: {message: 1025}",
		HOST "limits: {smtp_idle: 1h1m1s}\nevents: {retention: 3650d}\nlog: {level: debug}",
		HOST "dns: {stub_zone: test., stub: 127.0.0.1@5300, allow_local: yes}",
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct conf *c = good(texts[i]), *again;
		struct buf one, two;

		shown(c, &one);
		again = good(buf_cstr(&one));
		shown(again, &two);
		assert_string_equal(buf_cstr(&one), buf_cstr(&two));
		assert_int_equal(c->max_message, again->max_message);
		assert_int_equal(c->smtp_timeout, again->smtp_timeout);
		assert_int_equal(c->n_certs, again->n_certs);
		for (size_t k = 0; k < c->n_certs; k++) {
			assert_true(span_eq(c->certs[k].chain_file, again->certs[k].chain_file));
			assert_true(span_eq(c->certs[k].key_file, again->certs[k].key_file));
		}
		conf_unref(c);
		conf_unref(again);
		buf_done(&one);
		buf_done(&two);
	}
}

static void test_json(void **state)
{
	struct conf *c = good("server: {hostname: mx.example.org, data: \"/\xc3\xa9\\\"\"}\n"
			      "listen: {smtp: ['127.0.0.1:25']}\n"
			      "tls: {certificates: [{chain: \"/a\\\"\", key: /b}]}");
	_cleanup_(buf_donep) struct buf b = BUF_INIT(1024 * 1024);
	_cleanup_(json_decrefp) json_t *j = NULL;

	assert_int_equal(conf_show_json(c, &b), 0);
	assert_int_equal(b.p[b.n - 1], '\n');
	j = json_parse(span_trim(buf_span(&b)), NULL);
	assert_non_null(j);
	assert_int_equal(json_object_size(j), conf_n_options);
	assert_span(json_str(j, "server.data"), "/\xc3\xa9\"");
	assert_int_equal(json_int(j, "relay.port", 0), 25);
	assert_true(json_is_false(json_object_get(j, "lab.enabled")));
	assert_span(json_str(j, "limits.message"), "50M");
	assert_string_equal(json_string_value(json_array_get(json_object_get(j, "listen.smtp"), 0)),
			    "127.0.0.1:25");
	assert_span(json_str(json_array_get(json_object_get(j, "tls.certificates"), 0), "chain"),
		    "/a\"");
	conf_unref(c);
}

/* Every row can be set to its own default, and has a sentence. */
static void test_schema(void **state)
{
	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];

		assert_true(o->help[0] && o->help[strlen(o->help) - 1] == '.');
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(o->name, conf_options[k].name);
	}
}

static void test_template(void **state)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CONF_MAX_TEXT), m = BUF_INIT(1024 * 1024);
	struct conf *c;

	assert_int_equal(conf_template(&b, SPAN("mx.example.org"), SPAN("/d")), 0);
	c = good(buf_cstr(&b));
	assert_span(c->data_dir, "/d");
	conf_unref(c);
	assert_int_equal(conf_manual(&m), 0);
	for (size_t i = 0; i < conf_n_options; i++)
		assert_true(span_find_span(buf_span(&m), span_str(conf_options[i].name)) !=
			    SPAN_NPOS);
}

static void test_load(void **state)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(CONF_MAX_TEXT);
	struct err_info info = { 0 };
	struct conf *c = NULL;
	char path[] = "/tmp/test-conf-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, HOST, sizeof HOST - 1), sizeof HOST - 1);
	close(fd);
	assert_int_equal(conf_load(path, &c, &text, &info), 0);
	assert_string_equal(buf_cstr(&text), HOST);
	conf_unref(conf_ref(c));
	conf_unref(c);
	unlink(path);
	buf_reset(&text);
	assert_int_equal(conf_load(path, &c, &text, &info), ERR_NOENT);
	assert_non_null(strstr(info.text, path));
	conf_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),     cmocka_unit_test(test_values),
		cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_relay_hosts),
		cmocka_unit_test(test_wrong_keys),   cmocka_unit_test(test_whole),
		cmocka_unit_test(test_not_yaml),     cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_json),	     cmocka_unit_test(test_schema),
		cmocka_unit_test(test_template),     cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
