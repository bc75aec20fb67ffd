/* Submission rules (RFC 6409): who may say what he is, and what is missing in the header. */
#include "mail/mail_int.h"

#include "format/header.h"

#define FROM_MAX 100 /* addresses of a From field that are checked */

static enum conf_from policy_of(struct core_env *env, const struct directory_account *a,
				const struct conf *conf, struct arena *mem)
{
	struct directory_domain d;
	span domain = a->address;
	enum from_policy p = a->from;

	span_cut(&domain, '@');
	if (p == FROM_DEFAULT && directory_domain_get(env->directory, domain, mem, &d) == 0)
		p = d.from;
	if (p == FROM_DEFAULT)
		return (enum conf_from)conf->submission_from;
	return p == FROM_ANY ? CONF_FROM_ANY : CONF_FROM_OWNED;
}

static struct mail_verdict not_yours(const char *what, const struct address *a, struct arena *mem)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(600);

	buf_printf(&b, "%s <", what);
	buf_put_escaped(&b, address_text(a, mem), 256);
	buf_put_str(&b, "> is not one of yours");
	return (struct mail_verdict){ 550, "5.7.1", arena_span(mem, buf_span(&b)) };
}

bool mail_sender_allowed(struct core_env *env, const struct directory_account *a,
			 const struct address *sender, struct arena *mem, struct mail_verdict *ret)
{
	/* The null reverse-path is for notifications, which a client may send too (read receipts).
	 */
	if (address_is_null(sender) || directory_owns(env->directory, span_str(a->id), sender))
		return true;
	*ret = not_yours("the sender address", sender, mem);
	return false;
}

/* The refusal names the first From address that is not owned.  What cannot be read as an address
 * could be read as one by somebody else, so nothing of the field may be left over. */
static bool from_owned(struct core_env *env, struct mail_transaction *t, span from,
		       struct mail_verdict *ret)
{
	struct mailbox_address *list = arena_array(&t->mem, struct mailbox_address, FROM_MAX);
	size_t bad = 0, seen = 0;
	size_t n = address_list_parse(from, &t->mem, list, FROM_MAX, &bad);

	for (size_t i = 0; i < n; i++) {
		struct address a = { .local = list[i].local, .domain = list[i].domain };

		if (list[i].kind != MAILBOX_ADDR)
			continue;
		seen++;
		if (directory_owns(env->directory, span_str(t->account.id), &a))
			continue;
		*ret = not_yours("the From address", &a, &t->mem);
		return false;
	}
	if (bad || n == FROM_MAX) {
		*ret = (struct mail_verdict){ 550, "5.7.1",
					      SPAN("the From field cannot be read as addresses of "
						   "yours") };
		return false;
	}
	if (seen)
		return true;
	*ret = (struct mail_verdict){ 550, "5.7.1",
				      SPAN("the From field names no address of yours") };
	return false;
}

bool submit_from_checked(struct core_env *env, struct mail_transaction *t, const struct conf *conf)
{
	/* A program of this machine speaks for many: its user is told in Received. */
	return !sock_is_local(&t->peer) &&
	       policy_of(env, &t->account, conf, &t->mem) == CONF_FROM_OWNED;
}

bool submit_check(struct core_env *env, struct mail_transaction *t,
		  const struct message_facts *facts, const struct conf *conf, struct buf *b,
		  struct mail_verdict *ret)
{
	char id[ID_TEXT];
	span domain;

	if (facts->from > 1) {
		*ret = (struct mail_verdict){ 550, "5.6.0",
					      SPAN("the message has two From fields") };
		return false;
	}
	if (facts->from && submit_from_checked(env, t, conf) &&
	    !from_owned(env, t, facts->from_value, ret))
		return false;
	if (!facts->from) {
		buf_put_str(b, "From: ");
		if (!address_is_null(&t->sender))
			address_put(b, &t->sender);
		else if (t->account.address.n)
			buf_put_span(b, t->account.address);
		else
			buf_printf(b, "MAILER-DAEMON@%.*s", SPAN_FMT(conf->hostname));
		buf_put_str(b, "\r\n");
	}
	if (!facts->date) {
		buf_put_str(b, "Date: ");
		date_put(b, clock_wall(), 0);
		buf_put_str(b, "\r\n");
	}
	if (!facts->message_id) {
		domain = t->account.address;
		span_cut(&domain, '@');
		if (!domain.n)
			domain = conf->hostname;
		id_format(&t->id, id);
		t->message_id = span_str(arena_printf(&t->mem, "<%s@%.*s>", id, SPAN_FMT(domain)));
		buf_printf(b, "Message-ID: %.*s\r\n", SPAN_FMT(t->message_id));
	}
	return true;
}

bool submit_complete(struct core_env *env, struct mail_transaction *t, struct message_facts *facts,
		     const struct conf *conf, struct mail_verdict *ret)
{
	enum { PREFIX_MAX = 16 * 1024 };
	bool bare = mail_is_bare(buf_span(&t->body), facts);
	size_t header = bare ? 0 : facts->header_size;
	_cleanup_(buf_donep) struct buf b = BUF_INIT(header + PREFIX_MAX);
	struct message_facts none = { 0 };
	int e;

	if (!submit_check(env, t, bare ? &none : facts, conf, &b, ret))
		return false;
	if (!b.n)
		return true;
	buf_put_span(&b, bare ? SPAN("\r\n") : span_sub(buf_span(&t->body), 0, header));
	e = b.failed ? ERR_TOOBIG : mail_body_set_header(t, buf_span(&b), header);
	message_check(buf_span(&t->body), facts);
	*ret = e < 0 ? verdict_of_error(e) : *ret;
	return e == 0;
}
