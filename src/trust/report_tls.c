#include "trust/report.h"

static span text_of(const json_t *o, const char *key, struct arena *mem)
{
	return arena_span(mem, json_str(o, key));
}

static uint64_t count_of(const json_t *o, const char *key)
{
	return (uint64_t)MAX(json_int(o, key, 0), (int64_t)0);
}

static struct tls_failure *read_failures(const json_t *list, struct arena *mem)
{
	struct tls_failure *first = NULL, **tail = &first;
	const json_t *f;
	size_t i;

	json_array_foreach(list, i, f)
	{
		struct tls_failure *x = arena_new(mem, struct tls_failure);

		*x = (struct tls_failure){ .result_type = text_of(f, "result-type", mem),
					   .sending_ip = text_of(f, "sending-mta-ip", mem),
					   .receiving_host = text_of(f, "receiving-mx-hostname",
								     mem),
					   .receiving_ip = text_of(f, "receiving-ip", mem),
					   .reason = text_of(f, "failure-reason-code", mem),
					   .count = count_of(f, "failed-session-count") };
		*tail = x;
		tail = &x->next;
	}
	return first;
}

static void read_policies(const json_t *list, struct arena *mem, struct tls_report *ret)
{
	struct tls_policy **tail = &ret->policies;
	const json_t *p;
	size_t i;

	json_array_foreach(list, i, p)
	{
		const json_t *policy = json_object_get(p, "policy"),
			     *sum = json_object_get(p, "summary");
		struct tls_policy *x = arena_new(mem, struct tls_policy);

		*x = (struct tls_policy){
			.type = text_of(policy, "policy-type", mem),
			.domain = text_of(policy, "policy-domain", mem),
			.succeeded = count_of(sum, "total-successful-session-count"),
			.failed = count_of(sum, "total-failure-session-count"),
			.failures = read_failures(json_object_get(p, "failure-details"), mem)
		};
		ret->succeeded += x->succeeded;
		ret->failed += x->failed;
		ret->n_policies++;
		*tail = x;
		tail = &x->next;
	}
}

/* RFC 8460 section 4.4. */
int tls_report_parse(span json, struct arena *mem, struct tls_report *ret, struct err_info *info)
{
	_cleanup_(json_decrefp) json_t *o = json_parse(json, info);
	const json_t *range;

	if (!o)
		return ERR_SYNTAX;
	if (!json_is_array(json_object_get(o, "policies")))
		return err_set(info, ERR_SYNTAX, "not a TLS report: there is no list of policies");
	range = json_object_get(o, "date-range");
	*ret = (struct tls_report){ .org_name = text_of(o, "organization-name", mem),
				    .contact = text_of(o, "contact-info", mem),
				    .report_id = text_of(o, "report-id", mem),
				    .begin = text_of(range, "start-datetime", mem),
				    .end = text_of(range, "end-datetime", mem) };
	read_policies(json_object_get(o, "policies"), mem, ret);
	return 0;
}
