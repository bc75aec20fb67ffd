/* Inside api/: one admin request. */
#pragma once

#include "api/admin.h"
#include "base/arena.h"
#include "format/json.h"

struct admin_request {
	struct core_env *env;
	const struct admin_hooks *hooks;
	const json_t *args; /* the request object */
	struct arena *mem;
	int fd;
	bool broken;	 /* the client is gone */
	char error[300]; /* one sentence for people, when the command fails */
};

/* Sends one result line; takes over J. */
void admin_row(struct admin_request *r, json_t *j);
/* Fails the request: ERR (negative enum err) gives the exit code; the text is for people. */
int admin_fail(struct admin_request *r, int err, const char *fmt, ...) _printf_(3, 4);
/* Argument KEY as text; false (and the request failed) when it is missing or empty. */
bool admin_need(struct admin_request *r, const char *key, span *ret);
/* Argument KEY as true, false, "yes" or "no": 1 given, 0 absent, ERR_INVAL (and the request
 * failed). */
int admin_yes_no(struct admin_request *r, const char *key, bool *ret);
/* Is WAY one that conf_way_ok() knows under the present configuration? */
bool admin_way_ok(struct admin_request *r, span way);
json_t *admin_time(usec wall); /* "2026-11-21T23:05:07.123Z", or null for 0 */
json_t *admin_id(const struct id *id);

struct admin_command {
	const char *name;
	int (*fn)(struct admin_request *r); /* 0 or negative enum err */
	bool dry_run; /* knows "dry_run": true, which any other command refuses */
};
/* Each family's table ends with a NULL name. */
extern const struct admin_command admin_directory_commands[];
extern const struct admin_command admin_ban_commands[];
extern const struct admin_command admin_dkim_commands[];
extern const struct admin_command admin_credential_commands[];
extern const struct admin_command admin_queue_commands[];
extern const struct admin_command admin_trace_commands[];
extern const struct admin_command admin_explain_commands[];
extern const struct admin_command admin_server_commands[];
