/* The command line.  Commands that concern a running server go through its admin socket
 * (api/admin.h); a few (setup, serve, config, lab) work by themselves.  Exit codes are those of
 * sysexits(3). */
#pragma once

#include <stdbool.h>

int cli_main(int argc, char **argv);
/* Was the program called as sendmail, mailq or newaliases? */
bool sendmail_is_name(const char *argv0);
int sendmail_main(int argc, char **argv);
