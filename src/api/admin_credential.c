/* app-password commands. */
#include "api/admin_int.h"

static const struct {
	const char *name;
	unsigned bit;
} scopes[] = { { "smtp", DIRECTORY_SMTP },
	       { "imap", DIRECTORY_IMAP },
	       { "pop3", DIRECTORY_POP3 } };

/* "imap,smtp"; empty: everything. */
static bool scope_parse(span text, unsigned *ret)
{
	unsigned scope = text.n ? 0 : DIRECTORY_ALL_SCOPES;

	while (text.n) {
		span word = span_trim(span_cut(&text, ','));
		size_t i = 0;

		while (i < ARRAY_LEN(scopes) && !span_eq_str(word, scopes[i].name))
			i++;
		if (i == ARRAY_LEN(scopes))
			return false;
		scope |= scopes[i].bit;
	}
	*ret = scope;
	return true;
}

static json_t *scope_json(unsigned scope)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64);

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		if (scope & scopes[i].bit)
			buf_printf(&b, "%s%s", b.n ? "," : "", scopes[i].name);
	return json_span(buf_span(&b));
}

static int app_password_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	char password[DIRECTORY_APP_PASSWORD];
	span address, name, lasts = json_str(r->args, "expires");
	unsigned scope;
	usec life, expires = 0;
	int e;

	if (!admin_need(r, "address", &address) || !admin_need(r, "name", &name))
		return ERR_INVAL;
	if (!scope_parse(json_str(r->args, "scope"), &scope))
		return admin_fail(r, ERR_INVAL, "scope: expected some of smtp,imap,pop3");
	if (lasts.n && (clock_parse_duration(lasts, &life) < 0 || life <= 0))
		return admin_fail(r, ERR_INVAL, "expires: expected a time from now, such as 90d");
	if (lasts.n)
		expires = clock_wall() + life;
	e = directory_app_password_add(r->env->directory, address, name, scope, expires, password,
				       &info);
	if (e == 0)
		admin_row(r, json_pack("{s:o,s:o,s:s,s:o,s:o}", "address", json_span(address),
				       "name", json_span(name), "password", password, "scope",
				       scope_json(scope), "expires", admin_time(expires)));
	explicit_bzero(password, sizeof password);
	return e < 0 ? admin_fail(r, e, "%s", info.text) : 0;
}

static int app_password_list(struct admin_request *r)
{
	struct directory_app_password *p;
	span address;
	size_t n;
	int e;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	e = directory_app_passwords(r->env->directory, address, r->mem, &p, &n);
	if (e < 0)
		return admin_fail(r, e, "there is no account %.*s",
				  SPAN_FMT(span_sub(address, 0, 200)));
	for (size_t i = 0; i < n && !r->broken; i++)
		admin_row(r, json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "name", json_span(p[i].name),
				       "scope", scope_json(p[i].scope), "created",
				       admin_time(p[i].created), "expires", admin_time(p[i].expires),
				       "used", admin_time(p[i].used), "peer", json_span(p[i].peer)));
	return 0;
}

static int app_password_rm(struct admin_request *r)
{
	struct err_info info = { 0 };
	span address, name;

	if (!admin_need(r, "address", &address) || !admin_need(r, "name", &name))
		return ERR_INVAL;
	int e = directory_app_password_remove(r->env->directory, address, name, &info);
	return e < 0 ? admin_fail(r, e, "%s", info.text) : 0;
}

const struct admin_command admin_credential_commands[] = {
	{ "account app-password add", app_password_add },
	{ "account app-password list", app_password_list },
	{ "account app-password rm", app_password_rm },
	{ NULL, NULL },
};
