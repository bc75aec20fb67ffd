#include "smtp/extensions.h"

#include <inttypes.h>

#include "format/header.h"
#include "smtp/xclient.h"

enum {		       /* where it is offered; all that are named must be so */
       WHEN_CLEAR = 1, /* TLS can be had and is not there */
       WHEN_TLS = 2,
       WHEN_SUBMISSION = 4,
       WHEN_HOLD = 8, /* messages may be held */
       WHEN_TRUSTED = 16,
       WHEN_ETRN = 32,
       WHEN_SMTP = 64, /* not LMTP */
};

typedef void args_fn(struct buf *b, const struct smtp_offer *o);

static void put_size(struct buf *b, const struct smtp_offer *o)
{
	buf_printf(b, " %" PRIu64, o->max_size);
}

static void put_by(struct buf *b, const struct smtp_offer *o)
{
	buf_printf(b, " %d", SMTP_BY_MIN);
}

static void put_limits(struct buf *b, const struct smtp_offer *o)
{
	buf_printf(b, " RCPTMAX=%" PRIu32, o->max_rcpts);
}

static void put_hold(struct buf *b, const struct smtp_offer *o)
{
	buf_printf(b, " %" PRIu64 " ", (uint64_t)(o->hold_max / USEC_SEC));
	date_internet_put(b, o->now + o->hold_max);
}

static void put_mechanisms(struct buf *b, const struct smtp_offer *o)
{
	buf_put_char(b, ' ');
	buf_put_span(b, o->mechanisms);
}

static void put_attributes(struct buf *b, const struct smtp_offer *o)
{
	buf_put_str(b, " " SMTP_XCLIENT_ATTRIBUTES);
}

static const struct extension {
	const char *keyword;
	unsigned when;
	args_fn *args;
} extensions[SMTP_EXT_COUNT] = {
	/* clang-format off */
	[SMTP_EXT_PIPELINING]    = { "PIPELINING",          0, NULL },
	[SMTP_EXT_SIZE]          = { "SIZE",                0, put_size },
	[SMTP_EXT_8BITMIME]      = { "8BITMIME",            0, NULL },
	[SMTP_EXT_BINARYMIME]    = { "BINARYMIME",          0, NULL },
	[SMTP_EXT_SMTPUTF8]      = { "SMTPUTF8",            0, NULL },
	[SMTP_EXT_ENHANCEDCODES] = { "ENHANCEDSTATUSCODES", 0, NULL },
	[SMTP_EXT_CHUNKING]      = { "CHUNKING",            0, NULL },
	[SMTP_EXT_DSN]           = { "DSN",                 0, NULL },
	[SMTP_EXT_DELIVERBY]     = { "DELIVERBY",           0, put_by },
	[SMTP_EXT_PRIORITY]      = { "MT-PRIORITY",         0, NULL },
	[SMTP_EXT_LIMITS]        = { "LIMITS",              0, put_limits },
	[SMTP_EXT_PRDR]          = { "PRDR",                WHEN_SMTP, NULL },
	[SMTP_EXT_STARTTLS]      = { "STARTTLS",            WHEN_CLEAR, NULL },
	[SMTP_EXT_REQUIRETLS]    = { "REQUIRETLS",          WHEN_TLS, NULL },
	[SMTP_EXT_FUTURERELEASE] = { "FUTURERELEASE",       WHEN_SUBMISSION | WHEN_HOLD, put_hold },
	[SMTP_EXT_AUTH]          = { "AUTH",                WHEN_SUBMISSION, put_mechanisms },
	[SMTP_EXT_ETRN]          = { "ETRN",                WHEN_ETRN | WHEN_SMTP, NULL },
	[SMTP_EXT_XCLIENT]       = { "XCLIENT",             WHEN_TRUSTED | WHEN_SMTP, put_attributes },
	/* clang-format on */
};

bool smtp_ext_offered(enum smtp_ext e, const struct smtp_phase *p)
{
	unsigned is = (p->tls ? WHEN_TLS : 0) | (p->tls_available && !p->tls ? WHEN_CLEAR : 0) |
		      (p->submission ? WHEN_SUBMISSION : 0) | (p->hold ? WHEN_HOLD : 0) |
		      (p->trusted ? WHEN_TRUSTED : 0) | (p->etrn ? WHEN_ETRN : 0) |
		      (p->lmtp ? 0 : WHEN_SMTP);

	return !(extensions[e].when & ~is);
}

void smtp_ext_put(struct buf *b, const struct smtp_phase *p, const struct smtp_offer *o)
{
	for (enum smtp_ext e = 0; e < SMTP_EXT_COUNT; e++) {
		if (!smtp_ext_offered(e, p) || (e == SMTP_EXT_AUTH && !o->mechanisms.n))
			continue;
		buf_put_char(b, '\n');
		buf_put_str(b, extensions[e].keyword);
		if (extensions[e].args)
			extensions[e].args(b, o);
	}
}

int smtp_priority(int asked, const struct smtp_phase *p)
{
	return p->authenticated || p->lmtp ? asked : MIN(asked, 0);
}
