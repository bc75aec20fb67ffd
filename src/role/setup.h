/* What every role does on its way up. */
#pragma once

#include "conf/conf.h"
#include "sys/spawn.h"

/* Parses CONF's text; logs and answers NULL if it is wrong (parent has checked it: a bug). */
struct conf *role_conf(span text);
/* Points the log at stderr with the file's level and format. */
void role_log(const char *role, const struct conf *c);
/* Drops root for USER (empty: stays) and locks the process.  A kernel that cannot do all of it is
 * logged and accepted; a user that does not exist is not. */
int role_confine(const char *user, enum sandbox_profile profile, const char *writable);
