/* ETRN (RFC 1985): what waits for a domain is due now. */
#include "smtp/session_int.h"

#include "base/log.h"

void smtp_cmd_etrn(struct smtp_job *j, const struct smtp_command *c, span line)
{
	const struct queue_filter f = { .domain = c->domain, .remote = true };
	char ip[SOCK_TEXT];
	size_t n = 0;
	int e = queue_retry(j->env->queue, &f, &n);

	sock_ip_text(&j->s->peer, ip);
	log_event(LOG_INFO, "smtp.etrn", F_STR("peer", ip), F_SPAN("domain", c->domain),
		  F_U64("rcpts", n), F_ERR(e));
	if (e < 0)
		smtp_say(j, 458, "4.3.0", SPAN("The queue cannot be started now"));
	else if (!n)
		smtp_say(j, 251, "2.0.0", SPAN("Ok, nothing waits for that domain"));
	else
		smtp_say(
			j, 253, "2.0.0",
			span_str(arena_printf(j->s->mem, "Ok, %zu pending recipients started", n)));
}
