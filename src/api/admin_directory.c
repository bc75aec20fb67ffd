/* domain, account and alias commands. */
#include "api/admin_int.h"

#include "base/log.h"

#define CHECK_REPORT_MAX (1024u * 1024)
#define MAX_TARGETS	 1000

static int done(struct admin_request *r, int e, const struct err_info *info)
{
	return e < 0 ? admin_fail(r, e, "%s", info->text[0] ? info->text : err_text(e)) : 0;
}

static int no_domain(struct admin_request *r, span name)
{
	return admin_fail(r, ERR_NOENT, "there is no domain %.*s here",
			  (int)MIN(name.n, (size_t)200), name.p);
}

static int domain_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	span name;

	if (!admin_need(r, "domain", &name))
		return ERR_INVAL;
	return done(r, directory_domain_add(r->env->directory, name, &info), &info);
}

static bool from_policy(span s, enum from_policy *ret)
{
	if (span_eq_str(s, "owned"))
		*ret = FROM_OWNED;
	else if (span_eq_str(s, "any"))
		*ret = FROM_ANY;
	else if (span_eq_str(s, "default"))
		*ret = FROM_DEFAULT;
	else
		return false;
	return true;
}

static int domain_set(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_domain d;
	span name, from = json_str(r->args, "from"), catch_all = json_str(r->args, "catch_all");
	int e;

	if (!admin_need(r, "domain", &name))
		return ERR_INVAL;
	e = directory_domain_get(r->env->directory, name, r->mem, &d);
	if (e < 0)
		return e == ERR_NOENT ? no_domain(r, name) : e;
	if (from.n && !from_policy(from, &d.from))
		return admin_fail(r, ERR_INVAL, "from: expected owned, any or default");
	if (json_object_get(r->args, "catch_all"))
		d.catch_all = catch_all;
	if (admin_yes_no(r, "subaddress", &d.subaddress) < 0)
		return ERR_INVAL;
	return done(r, directory_domain_set(r->env->directory, name, &d, &info), &info);
}

static int domain_rm(struct admin_request *r)
{
	struct err_info info = { 0 };
	span name;

	if (!admin_need(r, "domain", &name))
		return ERR_INVAL;
	return done(r, directory_domain_remove(r->env->directory, name, &info), &info);
}

static const char *policy_name(enum from_policy p)
{
	return p == FROM_OWNED ? "owned" : p == FROM_ANY ? "any" : "default";
}

static int domain_list(struct admin_request *r)
{
	struct directory_domain *d;
	size_t n;
	int e = directory_domains(r->env->directory, r->mem, &d, &n);

	for (size_t i = 0; e == 0 && i < n; i++)
		admin_row(r, json_pack("{s:o,s:o,s:s,s:b}", "domain", json_span(d[i].name),
				       "catch_all", json_span(d[i].catch_all), "from",
				       policy_name(d[i].from), "subaddress", (int)d[i].subaddress));
	return e;
}

/* The row and the folder are two databases, and the row gives the id.  After a crash between them
 * mail for the account is answered 4.3.0, never taken, until it is removed and added again. */
static int account_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	char id[ACCOUNT_ID_LEN + 1];
	enum from_policy from = FROM_DEFAULT;
	span address, want = json_str(r->args, "from");
	int e;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	if (want.n && !from_policy(want, &from))
		return admin_fail(r, ERR_INVAL, "from: expected owned, any or default");
	e = directory_account_add(r->env->directory, address, json_str(r->args, "password"), id,
				  &info);
	if (e < 0)
		return done(r, e, &info);
	e = account_create(r->env->store, span_str(id), &info);
	if (e < 0) {
		(void)directory_account_remove(r->env->directory, address, id, NULL);
		return done(r, e, &info);
	}
	if (from != FROM_DEFAULT)
		e = directory_account_set_from(r->env->directory, address, from, &info);
	if (e == 0)
		admin_row(r, json_pack("{s:o,s:s}", "address", json_span(address), "id", id));
	return done(r, e, &info);
}

static int account_rm(struct admin_request *r)
{
	struct err_info info = { 0 };
	char id[ACCOUNT_ID_LEN + 1];
	span address;
	int e;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	e = directory_account_remove(r->env->directory, address, id, &info);
	if (e < 0)
		return done(r, e, &info);
	e = account_remove(r->env->store, span_str(id));
	if (e < 0 && e != ERR_NOENT)
		return admin_fail(r, e,
				  "nobody can log in or get mail there any more, but the "
				  "folder of %s could not be removed: %s",
				  id, err_text(e));
	admin_row(r, json_pack("{s:o,s:s}", "address", json_span(address), "id", id));
	return 0;
}

/* One row per finding; a sound account gives one row too, so that silence never means success. */
static void check_one(struct admin_request *r, const struct directory_account *a)
{
	_cleanup_(account_putp) struct account *open = NULL;
	_cleanup_(buf_donep) struct buf report = BUF_INIT(CHECK_REPORT_MAX);
	span lines;
	int n = 0;

	if (account_get(r->env->store, span_str(a->id), &open, NULL) < 0) {
		admin_row(r, json_pack("{s:o,s:b,s:s}", "address", json_span(a->address), "sound",
				       0, "finding", "its folder is missing or cannot be opened"));
		return;
	}
	n = store_check(open, &report);
	if (n == 0)
		admin_row(r, json_pack("{s:o,s:b}", "address", json_span(a->address), "sound", 1));
	lines = buf_span(&report);
	while (n && lines.n)
		admin_row(r, json_pack("{s:o,s:b,s:o}", "address", json_span(a->address), "sound",
				       0, "finding", json_span(span_cut(&lines, '\n'))));
}

static int account_check(struct admin_request *r)
{
	struct directory_account *a, one;
	span address = json_str(r->args, "address");
	size_t n;
	int e;

	if (address.n) {
		e = directory_account_get(r->env->directory, address, r->mem, &one);
		if (e < 0)
			return admin_fail(r, e, "there is no account %.*s",
					  SPAN_FMT(span_sub(address, 0, 200)));
		check_one(r, &one);
		return 0;
	}
	e = directory_accounts(r->env->directory, SPAN_NULL, r->mem, &a, &n);
	for (size_t i = 0; e == 0 && i < n && !r->broken; i++)
		check_one(r, &a[i]);
	return e;
}

static int account_passwd(struct admin_request *r)
{
	struct err_info info = { 0 };
	span address, password;

	if (!admin_need(r, "address", &address) || !admin_need(r, "password", &password))
		return ERR_INVAL;
	return done(r, directory_account_passwd(r->env->directory, address, password, &info),
		    &info);
}

static int account_set(struct admin_request *r)
{
	struct directory *d = r->env->directory;
	struct err_info info = { 0 };
	enum from_policy from;
	span address, want = json_str(r->args, "from");
	bool suspended;
	int given = admin_yes_no(r, "suspended", &suspended), e = 0;

	if (given < 0 || !admin_need(r, "address", &address))
		return ERR_INVAL;
	if (!given && !want.n)
		return admin_fail(r, ERR_INVAL, "say what to change: --from or --suspended");
	if (want.n && !from_policy(want, &from))
		return admin_fail(r, ERR_INVAL, "from: expected owned, any or default");
	if (want.n)
		e = directory_account_set_from(d, address, from, &info);
	if (e == 0 && given)
		e = directory_account_set_suspended(d, address, suspended, &info);
	return done(r, e, &info);
}

static int account_list(struct admin_request *r)
{
	struct directory_account *a;
	size_t n;
	span domain = json_str(r->args, "domain");
	int e = directory_accounts(r->env->directory, domain, r->mem, &a, &n);

	if (e == ERR_NOENT)
		return no_domain(r, domain);
	for (size_t i = 0; e == 0 && i < n && !r->broken; i++) {
		_cleanup_(account_putp) struct account *open = NULL;
		uint64_t bytes = 0, messages = 0;

		if (account_get(r->env->store, span_str(a[i].id), &open, NULL) == 0)
			(void)account_usage(open, &bytes, &messages);
		admin_row(r, json_pack("{s:o,s:s,s:I,s:I,s:s,s:b,s:b}", "address",
				       json_span(a[i].address), "id", a[i].id, "messages",
				       (json_int_t)messages, "bytes", (json_int_t)bytes, "from",
				       policy_name(a[i].from), "suspended", (int)a[i].suspended,
				       "missing", open == NULL));
	}
	return e;
}

static int alias_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	const json_t *list = json_object_get(r->args, "targets");
	size_t n = json_array_size(list);
	span address, *targets;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	if (!n || n > MAX_TARGETS)
		return admin_fail(r, ERR_INVAL, "an alias needs 1 to %d targets", MAX_TARGETS);
	targets = arena_array(r->mem, span, n);
	for (size_t i = 0; i < n; i++) {
		const json_t *t = json_array_get(list, i);

		targets[i] = span_of(json_string_value(t), json_string_length(t));
		if (!targets[i].n)
			return admin_fail(r, ERR_INVAL, "a target is empty");
	}
	return done(r, directory_alias_add(r->env->directory, address, targets, n, &info), &info);
}

static int alias_rm(struct admin_request *r)
{
	struct err_info info = { 0 };
	span address;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	return done(r, directory_alias_remove(r->env->directory, address, &info), &info);
}

static int alias_list(struct admin_request *r)
{
	struct directory_alias *a;
	size_t n;
	span domain = json_str(r->args, "domain");
	int e = directory_aliases(r->env->directory, domain, r->mem, &a, &n);

	if (e == ERR_NOENT)
		return no_domain(r, domain);
	for (size_t i = 0; e == 0 && i < n && !r->broken; i++) {
		json_t *targets = json_array();

		for (size_t k = 0; k < a[i].n_targets; k++)
			json_array_append_new(targets, json_span(a[i].targets[k]));
		admin_row(r, json_pack("{s:o,s:o}", "address", json_span(a[i].address), "targets",
				       targets));
	}
	return e;
}

const struct admin_command admin_directory_commands[] = {
	{ "domain add", domain_add },	    { "domain set", domain_set },
	{ "domain rm", domain_rm },	    { "domain list", domain_list },
	{ "account add", account_add },	    { "account rm", account_rm },
	{ "account set", account_set },	    { "account list", account_list },
	{ "account check", account_check }, { "account passwd", account_passwd },
	{ "alias add", alias_add },	    { "alias rm", alias_rm },
	{ "alias list", alias_list },	    { NULL, NULL },
};
