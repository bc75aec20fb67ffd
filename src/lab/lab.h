/* The laboratory: two complete servers on loopback, alpha.test and beta.test, that find each other
 * by signed DNS; for tests, for judges, and for people who want to see it work. */
#pragma once

/* `postrider lab ...`; ARGV[0] is "lab".  Returns a sysexits code. */
int lab_main(int argc, char **argv);
