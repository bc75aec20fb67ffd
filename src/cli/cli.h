/* The command line.  Commands that concern a running server go through its admin socket
 * (api/admin.h); a few (setup, serve, config, lab) work by themselves.  Exit codes are those of
 * sysexits(3). */
#pragma once

int cli_main(int argc, char **argv);
