/* One binary: `postrider -x ROLE` is a role that the parent started (its channel is fd 3);
 * everything else is the command line. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "cli/cli.h"
#include "lab/lab.h"
#include "role/role.h"
#include "tls/tls.h"

#define CONTROL_FD 3

static int run_role(const char *name)
{
	static const struct {
		const char *name;
		int (*run)(int control, bool single);
	} roles[] = { { "front", role_front },
		      { "core", role_core },
		      { "out", role_out },
		      { "keys", role_keys } };
	struct err_info info = { 0 };

	signal(SIGPIPE, SIG_IGN);
	failpoint_setup();
	log_setup(name, LOG_INFO, LOG_LOGFMT, 2);
	if (tls_init(&info) < 0) {
		fprintf(stderr, "postrider: %s: %s\n", name, info.text);
		return EX_SOFTWARE;
	}
	for (size_t i = 0; i < ARRAY_LEN(roles); i++)
		if (strcmp(name, roles[i].name) == 0)
			return roles[i].run(CONTROL_FD, false);
	fprintf(stderr, "postrider: there is no role %s\n", name);
	return EX_USAGE;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "-x") == 0)
		return run_role(argv[2]);
	if (argc > 1 && strcmp(argv[1], "lab") == 0)
		return lab_main(argc - 1, argv + 1);
	if (sendmail_is_name(argv[0]))
		return sendmail_main(argc, argv);
	return cli_main(argc, argv);
}
