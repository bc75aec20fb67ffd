#include "role/setup.h"

#include <unistd.h>

#include "base/log.h"

struct conf *role_conf(span text)
{
	struct conf *c = NULL;
	struct err_info info = { 0 };
	if (conf_parse(text, "configuration", &c, &info) == 0)
		return c;
	log_event(LOG_ERROR, "role.conf_refused", F_STR("why", info.text));
	return NULL;
}

void role_log(const char *role, const struct conf *c)
{
	log_setup(role, (enum log_level)c->log_level, (enum log_format)c->log_format,
		  STDERR_FILENO);
}

int role_confine(const char *user, enum sandbox_profile profile, const char *writable)
{
	struct err_info info = { 0 };
	int r = user[0] ? spawn_drop(user, &info) : 0;
	if (r < 0) {
		log_event(LOG_ERROR, "role.user", F_STR("why", info.text), F_ERR(r));
		return r;
	}
	r = sandbox_enter(profile, writable, &info);
	if (r == ERR_UNSUPPORTED) {
		log_event(LOG_WARNING, "role.sandbox_weak", F_STR("why", info.text));
		return 0;
	}
	if (r < 0)
		log_event(LOG_ERROR, "role.sandbox", F_STR("why", info.text), F_ERR(r));
	return r;
}
