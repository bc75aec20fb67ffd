/* conf: the one configuration file.  A schema table (conf/schema.c) says name, type, unit, default,
 * range, reload class and help of each option; the parser, `config check|show`, the man page and
 * the defaults all come from it.  A snapshot is immutable and reference-counted.
 *
 * The text travels: parent reads the file, checks it, and hands the same text to each role, which
 * parses it before its sandbox closes (or from memory afterwards). */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "sys/net.h"
#include "sys/session.h"

#define CONF_MAX_TEXT (64u * 1024) /* one channel message */

enum conf_from { CONF_FROM_OWNED, CONF_FROM_ANY };
enum conf_check { CONF_CHECK_REMOTE, CONF_CHECK_ALL, CONF_CHECK_NONE };
enum conf_dmarc { CONF_DMARC_ENFORCE, CONF_DMARC_JUNK, CONF_DMARC_REPORT };

struct conf_listener {
	enum sess_proto proto;
	bool implicit_tls;
	span *addresses; /* "ADDR:PORT" */
	size_t n;
};
struct conf_networks {
	struct net *nets;
	size_t n;
};
#define CONF_LISTENERS 8 /* smtp submission submissions imap imaps pop3 pop3s lmtp */
#define CONF_MAX_CERTS 64
struct conf_cert {
	span chain_file, key_file;
};
/* A row of queue.rules: how what it matches is tried again.  0: as the queue's own values say. */
#define CONF_MAX_RULES 64
struct conf_rule {
	span match; /* format/deferral.h */
	usec first, max, lifetime;
	uint32_t factor;       /* percent */
	uint32_t min_priority; /* only messages of at least this priority (RFC 6710); 0: all */
};
/* A row of relay.routes. */
struct conf_verp {
	span sender; /* "user@domain" or "@domain" */
};
#define CONF_MAX_VERP 1000
struct conf_route {
	span domain; /* "example.org", ".example.org" (and all below it), "*" */
	span sender; /* "user@domain", "@domain", or empty: whoever */
	span to;     /* conf_way_ok() */
};
#define CONF_MAX_ROUTES	     256
#define CONF_REFUSE	     "refuse:"
#define CONF_MAX_RELAY_HOSTS 64
enum conf_relay_tls {
	CONF_RELAY_TLS_NONE,
	CONF_RELAY_TLS_MAY,
	CONF_RELAY_TLS_MUST,
	CONF_RELAY_TLS_VERIFY,
	CONF_RELAY_TLS_IMPLICIT
};
struct conf_relay_host {
	span name, host;
	uint32_t port;
	int tls; /* enum conf_relay_tls */
	bool lmtp;
	span user, password_file;
	span password; /* core only: conf_set_password() */
};

#define CONF_MAX_FILTERS 16
enum conf_filter_kind { CONF_FILTER_MILTER, CONF_FILTER_CLAMD, CONF_FILTER_HTTP };
enum conf_filter_for { CONF_FILTER_FOR_ALL, CONF_FILTER_FOR_INBOUND, CONF_FILTER_FOR_SUBMISSION };
enum conf_filter_stages { CONF_FILTER_AUTO, CONF_FILTER_ALL, CONF_FILTER_MESSAGE };
enum conf_filter_policy { CONF_FILTER_ACCEPT, CONF_FILTER_DEFER, CONF_FILTER_REJECT };
enum conf_filter_find { CONF_FIND_REJECT, CONF_FIND_QUARANTINE, CONF_FIND_HEADER };
struct conf_filter {
	span name;
	int kind;     /* enum conf_filter_kind */
	span address; /* ADDRESS:PORT, or of a hook its URL */
	int applies;  /* enum conf_filter_for */
	int stages;   /* enum conf_filter_stages */
	usec timeout, timeout_message;
	int on_error, too_large; /* enum conf_filter_policy */
	int on_find;		 /* enum conf_filter_find */
	uint64_t max_size;	 /* larger messages are not shown to it */
	uint64_t body;		 /* a hook is given bodies up to this size */
};

#define CONF_MAX_OAUTH 16
struct conf_oauth {
	span issuer, audience;
	span jwks_file, jwks_url;			/* keys of JWTs */
	span introspection_url, client_id, secret_file; /* opaque tokens (RFC 7662) */
	span claim;					/* that holds the address */
	span secret;					/* core only: conf_set_password() */
};

struct conf {
	span hostname; /* server.hostname */
	span data_dir; /* server.data */
	span user_front, user_core, user_out, user_keys;
	bool lab; /* lab.enabled: the admin socket may turn the clock */
	struct conf_listener listeners[CONF_LISTENERS];
	bool listen_local;
	struct conf_cert *certs;
	size_t n_certs;
	span ca_file; /* tls.ca: trust anchors for outgoing TLS */
	span client_ca_file; /* tls.client_ca: trust anchors for users' certificates, or empty */
	/* auth */
	unsigned auth_mechanisms; /* bits in the order of the option's choices (sasl/offer.h) */
	struct conf_oauth *oauth; /* who issues tokens */
	size_t n_oauth;
	/* limits */
	uint64_t max_message; /* bytes */
	uint32_t max_rcpts, max_connections, max_per_ip, max_received;
	usec smtp_timeout, imap_timeout, pop3_timeout; /* idle sessions */
	struct conf_filter *filters; /* filter.chain, in order */
	size_t n_filters;
	/* who may come, and how often (per minute, of one address; 0: no limit) */
	struct conf_networks trusted, proxy_from;
	uint32_t connection_rate, message_rate, recipient_rate;
	uint32_t unknown_rcpts, auth_failures; /* per hour */
	uint32_t net_factor;
	usec ban_time, greet_delay, tarpit_max, preauth_timeout;
	uint64_t front_memory; /* bytes */
	/* submission */
	int submission_from; /* enum conf_from */
	struct conf_networks xclient_from, etrn_from, lmtp_from;
	usec submission_hold; /* the longest hold a client may ask for; 0: none */
	/* trust */
	int trust_check, trust_dmarc; /* enum conf_check, conf_dmarc */
	span trust_sealers;	      /* domains, spaces between */
	/* forward */
	bool srs;
	span srs_domain; /* or empty: hostname */
	/* relay */
	uint32_t relay_port;
	span relay_source; /* source address of outgoing connections, or empty */
	bool relay_ipv6;
	uint32_t relay_per_destination, relay_connections;
	bool relay_chunking;
	struct conf_verp *verp;
	size_t n_verp;
	struct conf_relay_host *relay_hosts; /* of "via:NAME" */
	size_t n_relay_hosts;
	struct conf_route *routes; /* the first that fits decides */
	size_t n_routes;
	usec retry_first, retry_max, retry_lifetime, warn_after; /* warn_after 0: never */
	uint32_t retry_factor, retry_jitter; /* percent */
	struct conf_rule *retry_rules;
	size_t n_retry_rules;
	/* queue, store */
	uint32_t queue_shards, store_handles;
	uint64_t commit_log; /* bytes of a half; 0: none */
	uint64_t inline_max;
	/* dns */
	span dns_forward, dns_stub_zone, dns_stub, dns_anchor_file;
	bool dns_allow_local;
	/* workers */
	uint32_t threads_interactive, threads_auth, threads_delivery, threads_spool,
		threads_maintenance, front_loops;
	/* log, events */
	int log_level, log_format; /* enum log_level, enum log_format */
	usec events_retention;
	/* --- bookkeeping of the snapshot --- */
	int refs;
	struct arena mem;
};

/* Parses and checks TEXT; FILE names it in messages.  On failure INFO is one line
 * "FILE:LINE:COLUMN: what was expected". */
int conf_parse(span text, const char *file, struct conf **ret, struct err_info *info);
int conf_load(const char *path, struct conf **ret, struct buf *ret_text, struct err_info *info);
struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf *c); /* NULL is fine */
DEFINE_CLEANUP(struct conf, conf_unref)

/* Where a route leads:
 *
 *     smtp:DOMAIN               the domain's MX hosts
 *     smtp:[HOST], ...:PORT     that host or address
 *     lmtp:[HOST], ...:PORT     the same, speaking LMTP (RFC 2033)
 *     via:NAME                  a host of relay.hosts
 */
enum conf_nexthop_kind { NEXTHOP_DOMAIN, NEXTHOP_HOST, NEXTHOP_VIA };
struct conf_nexthop {
	enum conf_nexthop_kind kind;
	bool lmtp;
	span name;	  /* domain or host as A-labels, or NAME */
	bool has_address; /* HOST is an address */
	struct sockaddr_any address;
	uint16_t port; /* 0: the usual one */
};
/* ERR_SYNTAX.  Names are in MEM. */
int conf_nexthop_parse(span route, struct arena *mem, struct conf_nexthop *ret);
/* May it be the `to` of a route: "mx", such a route (whose NAME relay.hosts has), or, with REFUSE, "refuse: TEXT"? */
bool conf_way_ok(const struct conf *c, span to, bool refuse);

/* "50M", "512K", "2G" or a number of bytes. */
bool conf_size_parse(span text, uint64_t *ret);

/* Could relay.hosts have one of this name? */
bool conf_relay_name_ok(span name);
/* The smart host called NAME, or NULL. */
const struct conf_relay_host *conf_relay_host(const struct conf *c, span name);
/* Before C is shared: the content of a password_file or secret_file, up to its first line end.  No text form of C
 * shows it. */
void conf_set_password(struct conf *c, span file, span password);

/* The effective configuration as YAML, defaults included, one section per prefix. */
int conf_show(const struct conf *c, struct buf *b);
/* The same as one JSON object by dotted names, and LF: numbers, truth values and lists as such,
 * sizes, times and choices as they would be written. */
int conf_show_json(const struct conf *c, struct buf *b);
/* The reference of all options as a man page section (roff), for the generated manual. */
int conf_manual(struct buf *b);
/* A first configuration file with comments, for `setup`. */
int conf_template(struct buf *b, span hostname, span data_dir);

/* One row of the schema, for docs and `config explain`. */
enum conf_type {
	CONF_TEXT,
	CONF_BOOL,
	CONF_COUNT,
	CONF_SIZE,
	CONF_DURATION,
	CONF_ADDRESSES,
	CONF_NETWORKS,
	CONF_CHOICE,
	CONF_SET, /* a list of any of the choices */
	CONF_ROWS /* a list of maps */
};
enum conf_reload { CONF_RELOAD, CONF_RESTART };
struct conf_option {
	const char *name; /* "relay.port" */
	enum conf_type type;
	const char *fallback; /* as written in a file; of ROWS a flow sequence or "" */
	uint64_t min, max;    /* of counts, sizes (bytes), durations (seconds) */
	const char *choices;  /* "owned|any" */
	enum conf_reload reload;
	const char *help; /* one or two sentences */
	size_t offset;	  /* into struct conf; of a column, into its row */
	const struct conf_table *table; /* ROWS */
};
/* The maps of a list.  Keys without a fallback must be given. */
struct conf_table {
	const struct conf_option *columns;
	size_t n_columns, row_size, max;
	size_t count_offset; /* into struct conf; at the option's own offset is the pointer to the rows */
};
extern const struct conf_option conf_options[];
extern const size_t conf_n_options;
