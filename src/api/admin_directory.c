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

/* The options that `domain add` and `domain set` share, into V; 0 or a failure that was told. */
static int domain_options(struct admin_request *r, struct directory_domain *v)
{
	span from = json_str(r->args, "from");
	bool backup;
	int given = admin_yes_no(r, "backup", &backup);

	if (from.n && !from_policy(from, &v->from))
		return admin_fail(r, ERR_INVAL, "from: expected owned, any or default");
	if (json_object_get(r->args, "catch_all"))
		v->catch_all = json_str(r->args, "catch_all");
	if (json_object_get(r->args, "alias_of"))
		v->alias_of = json_str(r->args, "alias_of");
	if (json_object_get(r->args, "unknown_to"))
		v->unknown_to = json_str(r->args, "unknown_to");
	else if (given > 0)
		v->unknown_to = backup ? SPAN("mx") : SPAN_NULL;
	if (v->unknown_to.n && !admin_way_ok(r, v->unknown_to))
		return admin_fail(r, ERR_INVAL,
				  "unknown_to: expected smtp:[HOST]:PORT, lmtp:[HOST]:PORT, "
				  "smtp:DOMAIN, mx, or via:NAME with a name of relay.hosts");
	if (given < 0 || admin_yes_no(r, "subaddress", &v->subaddress) < 0 ||
	    admin_yes_no(r, "known_only", &v->known_only) < 0 ||
	    admin_yes_no(r, "scram", &v->scram) < 0)
		return ERR_INVAL;
	return 0;
}

static int domain_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_domain v = { .subaddress = true, .scram = true };
	int e;

	if (!admin_need(r, "domain", &v.name))
		return ERR_INVAL;
	e = domain_options(r, &v);
	return e < 0 ? e : done(r, directory_domain_make(r->env->directory, &v, &info), &info);
}

static int domain_set(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_domain v;
	span name;
	int e;

	if (!admin_need(r, "domain", &name))
		return ERR_INVAL;
	e = directory_domain_get(r->env->directory, name, r->mem, &v);
	if (e < 0)
		return e == ERR_NOENT ? no_domain(r, name) : e;
	e = domain_options(r, &v);
	return e < 0 ? e : done(r, directory_domain_set(r->env->directory, name, &v, &info), &info);
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
		admin_row(r, json_pack("{s:o,s:o,s:s,s:b,s:o,s:o,s:b,s:b}", "domain",
				       json_span(d[i].name), "catch_all", json_span(d[i].catch_all),
				       "from", policy_name(d[i].from), "subaddress",
				       (int)d[i].subaddress, "alias_of", json_span(d[i].alias_of),
				       "unknown_to", json_span(d[i].unknown_to), "known_only",
				       (int)d[i].known_only, "scram", (int)d[i].scram));
	return e;
}

/* The quota option: 1 given, 0 absent, or a failure that was told. */
static int quota_option(struct admin_request *r, uint64_t *ret)
{
	span text = json_str(r->args, "quota");

	if (!text.n)
		return 0;
	if (span_eq_str(text, "none"))
		*ret = 0;
	else if (!conf_size_parse(text, ret))
		return admin_fail(r, ERR_INVAL, "quota: expected a size such as 5G, or none");
	return 1;
}

/* What an account has beside its password: 0 or a failure that was told. */
struct account_options {
	enum from_policy from;
	uint64_t quota;
	bool suspended, app_only;
	int has_from, has_quota, has_suspended, has_app_only;
};

static int account_options(struct admin_request *r, struct account_options *ret)
{
	span from = json_str(r->args, "from");

	*ret = (struct account_options){ .has_from = from.n > 0 };
	if (from.n && !from_policy(from, &ret->from))
		return admin_fail(r, ERR_INVAL, "from: expected owned, any or default");
	ret->has_quota = quota_option(r, &ret->quota);
	ret->has_suspended = admin_yes_no(r, "suspended", &ret->suspended);
	ret->has_app_only = admin_yes_no(r, "app_only", &ret->app_only);
	return ret->has_quota < 0 || ret->has_suspended < 0 || ret->has_app_only < 0 ? ERR_INVAL : 0;
}

static int account_apply(struct admin_request *r, span address, const struct account_options *o,
			 struct err_info *info)
{
	struct directory *d = r->env->directory;
	int e = 0;

	if (o->has_from)
		e = directory_account_set_from(d, address, o->from, info);
	if (e == 0 && o->has_quota)
		e = directory_account_set_quota(d, address, o->quota, info);
	if (e == 0 && o->has_suspended)
		e = directory_account_set_suspended(d, address, o->suspended, info);
	if (e == 0 && o->has_app_only)
		e = directory_account_set_app_only(d, address, o->app_only, info);
	return e;
}

/* The folder first: after a crash between the two databases there is one that nobody has, and the
 * command can be repeated; an account without its folder would answer all mail with 4.3.0. */
static int account_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	char id[ACCOUNT_ID_LEN + 1];
	struct account_options o;
	span address;
	int e;

	if (!admin_need(r, "address", &address) || account_options(r, &o) < 0)
		return ERR_INVAL;
	e = directory_address_free(r->env->directory, address, &info);
	if (e < 0)
		return done(r, e, &info);
	directory_account_id(id);
	e = account_create(r->env->store, span_str(id), &info);
	if (e < 0)
		return done(r, e, &info);
	e = directory_account_add_as(r->env->directory, id, address, json_str(r->args, "password"),
				     &info);
	if (e < 0) {
		(void)account_remove(r->env->store, span_str(id));
		return done(r, e, &info);
	}
	e = account_apply(r, address, &o, &info);
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
	struct err_info info = { 0 };
	struct account_options o;
	span address;

	if (account_options(r, &o) < 0 || !admin_need(r, "address", &address))
		return ERR_INVAL;
	if (!o.has_from && !o.has_quota && !o.has_suspended && !o.has_app_only)
		return admin_fail(r, ERR_INVAL,
				  "say what to change: --from, --quota, --suspended or --app-only");
	return done(r, account_apply(r, address, &o, &info), &info);
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
		admin_row(r, json_pack("{s:o,s:s,s:I,s:I,s:I,s:s,s:b,s:b,s:b}", "address",
				       json_span(a[i].address), "id", a[i].id, "messages",
				       (json_int_t)messages, "bytes", (json_int_t)bytes, "quota",
				       (json_int_t)a[i].quota_bytes, "from", policy_name(a[i].from),
				       "suspended", (int)a[i].suspended, "app_only",
				       (int)a[i].app_only, "missing", open == NULL));
	}
	return e;
}

static const char *const senders_name[] = { [SENDERS_ANYONE] = "anyone",
					    [SENDERS_MEMBERS] = "members",
					    [SENDERS_AUTHENTICATED] = "authenticated" };

/* The options that `alias add` and `alias set` share, into V; 0 or a failure that was told. */
static int alias_options(struct admin_request *r, struct directory_alias *v)
{
	span who = json_str(r->args, "senders"), priority = json_str(r->args, "priority");
	bool negative = span_starts(priority, SPAN("-"));
	uint64_t number = 0;
	size_t i = 0;

	while (who.n && i < ARRAY_LEN(senders_name) && !span_eq_str(who, senders_name[i]))
		i++;
	if (i == ARRAY_LEN(senders_name))
		return admin_fail(r, ERR_INVAL,
				  "senders: expected anyone, members or authenticated");
	if (who.n)
		v->senders = (enum alias_senders)i;
	if (!priority.n)
		return 0;
	if (!span_u64(span_from(priority, negative), DIRECTORY_PRIORITY_MAX, &number))
		return admin_fail(r, ERR_INVAL, "priority: expected a number from -%d to %d",
				  DIRECTORY_PRIORITY_MAX, DIRECTORY_PRIORITY_MAX);
	v->priority = negative ? -(int)number : (int)number;
	return 0;
}

/* The list "targets". */
static int read_targets(struct admin_request *r, struct directory_alias *v)
{
	const json_t *list = json_object_get(r->args, "targets");

	v->n_targets = json_array_size(list);
	if (!v->n_targets || v->n_targets > MAX_TARGETS)
		return admin_fail(r, ERR_INVAL, "an alias needs 1 to %d targets", MAX_TARGETS);
	v->targets = arena_array(r->mem, span, v->n_targets);
	for (size_t i = 0; i < v->n_targets; i++) {
		const json_t *t = json_array_get(list, i);

		v->targets[i] = span_of(json_string_value(t), json_string_length(t));
		if (!v->targets[i].n)
			return admin_fail(r, ERR_INVAL, "a target is empty");
	}
	return 0;
}

static int alias_add(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_alias v = { 0 };
	int e;

	if (!admin_need(r, "address", &v.address))
		return ERR_INVAL;
	e = read_targets(r, &v);
	if (e == 0)
		e = alias_options(r, &v);
	return e < 0 ? e : done(r, directory_alias_make(r->env->directory, &v, &info), &info);
}

/* Adds and takes away a target. */
static int change_targets(struct admin_request *r, struct directory_alias *v, span add, span gone)
{
	span *targets = arena_array(r->mem, span, v->n_targets + 1);
	size_t n = 0;
	bool there = false, had = false;

	for (size_t i = 0; i < v->n_targets; i++) {
		there |= add.n && span_ieq(v->targets[i], add);
		if (gone.n && span_ieq(v->targets[i], gone))
			had = true;
		else
			targets[n++] = v->targets[i];
	}
	if (gone.n && !had)
		return admin_fail(r, ERR_NOENT, "it does not lead to the address to be removed");
	if (add.n && there)
		return admin_fail(r, ERR_EXIST, "it leads to the address to be added already");
	if (add.n)
		targets[n++] = add;
	v->targets = targets;
	v->n_targets = n;
	return 0;
}

static int alias_set(struct admin_request *r)
{
	struct err_info info = { 0 };
	struct directory_alias v = { 0 };
	span address, add = json_str(r->args, "add"), gone = json_str(r->args, "remove");
	bool all = json_object_get(r->args, "targets"); /* of alias import: in their place */
	int e;

	if (!admin_need(r, "address", &address))
		return ERR_INVAL;
	if (!add.n && !gone.n && !all && !json_object_get(r->args, "senders") &&
	    !json_object_get(r->args, "priority"))
		return admin_fail(r, ERR_INVAL,
				  "say what to change: --add, --remove, --senders or --priority");
	if (directory_alias_get(r->env->directory, address, r->mem, &v) < 0)
		return admin_fail(r, ERR_NOENT, "there is no such alias");
	e = alias_options(r, &v);
	if (e == 0)
		e = all ? read_targets(r, &v) : change_targets(r, &v, add, gone);
	return e < 0 ? e : done(r, directory_alias_set(r->env->directory, &v, &info), &info);
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
		admin_row(r, json_pack("{s:o,s:o,s:s,s:i}", "address", json_span(a[i].address),
				       "targets", targets, "senders", senders_name[a[i].senders],
				       "priority", a[i].priority));
	}
	return e;
}

static int srs_rotate(struct admin_request *r)
{
	struct err_info info = { 0 };

	return done(r, directory_srs_rotate(r->env->directory, &info), &info);
}

const struct admin_command admin_directory_commands[] = {
	{ "domain add", domain_add },	    { "domain set", domain_set },
	{ "domain rm", domain_rm },	    { "domain list", domain_list },
	{ "account add", account_add },	    { "account rm", account_rm },
	{ "account set", account_set },	    { "account list", account_list },
	{ "account check", account_check }, { "account passwd", account_passwd },
	{ "alias add", alias_add },	    { "alias set", alias_set },
	{ "alias rm", alias_rm },	    { "alias list", alias_list },
	{ "srs rotate", srs_rotate },	    { NULL, NULL },
};
