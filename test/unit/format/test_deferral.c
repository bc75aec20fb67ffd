/* What a deferral is about. */
#include "support.h"

#include "format/deferral.h"

static void test_valid(void **state)
{
	static const char *const good[] = { "any",   "greylist", "mailbox_full", "connect",
					    "dns",   "tls",	 "421",		 "552",
					    "4.7.1", "4.7",	 "5.2.2",	 "4.123.456" };
	static const char *const bad[] = { "",	      "Any",   "grey", "250",	"42",
					   "4211",    "4.",    "4..1", "4.7.",	"4.7.1.",
					   "4.7.1.2", "2.0.0", "4.x",  "4.1234" };

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!deferral_match_valid(span_str(good[i])))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (deferral_match_valid(span_str(bad[i])))
			fail_msg("%s", bad[i]);
}

static void test_matches(void **state)
{
	static const struct {
		const char *match, *reply, *status;
		bool want;
	} v[] = {
		{ "any", "", "", true },
		{ "421", "421 4.3.2 later", "4.3.2", true },
		{ "421", "450 4.2.1 not 421", "4.2.1", false },
		{ "421", "421", "4.0.0", true },
		{ "421", "4210 messages wait", "4.0.0", false },
		{ "4.7", "451 4.7.1 later", "4.7.1", true },
		{ "4.7.1", "451 4.7.1 later", "4.7.1", true },
		{ "4.7.1", "451 4.7.12 later", "4.7.12", false },
		{ "4.7.1", "451 4.7 later", "4.7", false },
		{ "greylist", "450 4.2.0 <a@x>: Greylisted, see http://x", "4.2.0", true },
		{ "greylist", "451 4.7.1 GrayListing in action", "4.7.1", true },
		{ "greylist", "451 4.7.1 come back later", "4.7.1", false },
		{ "mailbox_full", "452 4.2.2 no", "4.2.2", true },
		{ "mailbox_full", "452 Mailbox full", "4.0.0", true },
		{ "mailbox_full", "452 disk full", "4.3.1", false },
		{ "connect", "mx.x.test: connection refused", "4.4.1", true },
		{ "connect", "no answer to DATA: timeout", "4.4.2", true },
		{ "connect", "421 4.4.2 idle for too long", "4.4.2", false },
		{ "dns", "MX look-up of x.test: time-out", "4.4.3", true },
		{ "dns", "450 4.4.3 our DNS fails", "4.4.3", false },
		{ "tls", "handshake failed", "4.7.5", true },
		{ "tls", "454 4.7.5 TLS not available", "4.7.5", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		if (deferral_matches(span_str(v[i].match), span_str(v[i].reply),
				     span_str(v[i].status)) != v[i].want)
			fail_msg("%s: %s", v[i].match, v[i].reply);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_matches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
