/* STARTTLS (RFC 3207). */
#include "smtp/session_int.h"

void smtp_cmd_starttls(struct smtp_job *j, const struct smtp_command *c, span line)
{
	/* Whatever was said in clear may have been said by somebody else (4.2). */
	smtp_forget(j->env, j->st);
	j->end = SMTP_END_STARTTLS;
}
