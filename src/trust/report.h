/* Reports that others send about a domain's mail: DMARC aggregate reports (RFC 9990, and RFC 7489 appendix C
 * before it) and SMTP TLS reports (RFC 8460).  Values as they were written, lower case where they are
 * words; everything lives in MEM.  Pure. */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "format/json.h"

#define REPORT_ROWS_MAX 100000

/* --- DMARC --- */
struct dmarc_row {
	span source_ip;
	uint64_t count;
	span disposition, dkim, spf; /* policy_evaluated */
	span reason;		     /* type of the first override, or empty */
	span header_from, envelope_from;
	span dkim_domain, dkim_selector, dkim_result; /* of the first signature */
	span spf_domain, spf_result;
	struct dmarc_row *next;
};
struct dmarc_report {
	span org_name, email, report_id, domain;
	uint64_t begin, end; /* seconds since 1970 */
	span p, sp, np, adkim, aspf, testing;
	struct dmarc_row *rows;
	size_t n_rows;
	uint64_t messages, passed; /* sums of count; passed: DKIM or SPF, aligned */
	bool mended;		   /* the file was not well-formed */
};
/* Reads the XML.  What is not well-formed is mended if that helps.  ERR_SYNTAX (INFO says why),
 * ERR_TOOBIG. */
int dmarc_report_parse(span xml, struct arena *mem, struct dmarc_report *ret, struct err_info *info);

/* --- TLS --- */
struct tls_failure {
	span result_type, sending_ip, receiving_host, receiving_ip, reason;
	uint64_t count;
	struct tls_failure *next;
};
struct tls_policy {
	span type, domain; /* "sts", "tlsa", "no-policy-found" */
	uint64_t succeeded, failed;
	struct tls_failure *failures;
	struct tls_policy *next;
};
struct tls_report {
	span org_name, contact, report_id, begin, end;
	struct tls_policy *policies;
	size_t n_policies;
	uint64_t succeeded, failed;
};
int tls_report_parse(span json, struct arena *mem, struct tls_report *ret, struct err_info *info);
