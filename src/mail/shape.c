/* The shape of a message as it came: what filters and mail_receive() look at alike. */
#include "format/header.h"
#include "mail/inspect.h"

/* Without a single field before the first empty line, or with a continuation line at the top, which
 * would go on with our own last field, there is no header. */
bool mail_is_bare(span head, const struct message_facts *f)
{
	if (!head.n || span_starts(head, SPAN("\r\n")))
		return false;
	return !f->fields || head.p[0] == ' ' || head.p[0] == '\t';
}

/* Only the beginning of a large message is in memory, and what is not looked at is not checked. */
bool mail_header_cut(const struct mail_transaction *t, const struct message_facts *f)
{
	span head = buf_span(&t->body);

	return t->spool_fd >= 0 && !mail_is_bare(head, f) && f->header_size == head.n &&
	       !span_eq(span_from(head, head.n - MIN(head.n, (size_t)4)), SPAN("\r\n\r\n"));
}

/* What names us as its author was not written by us: it came from outside (RFC 8601 5).  Was read by
 * then: signatures may cover it. */
int mail_strip_forged(struct mail_transaction *t, const struct conf *conf,
		      struct message_facts *facts)
{
	_cleanup_(buf_donep) struct buf header = BUF_INIT(facts->header_size);
	size_t removed = 0;
	int e;

	if (!facts->authres)
		return 0;
	e = authres_strip(span_sub(buf_span(&t->body), 0, facts->header_size), conf->hostname,
			  &header, &removed);
	if (e < 0 || !removed)
		return e;
	e = mail_body_set_header(t, buf_span(&header), facts->header_size);
	message_check(buf_span(&t->body), facts);
	return e;
}
