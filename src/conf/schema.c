/* The schema: the one place where an option exists. */
#include "conf/conf_int.h"

#include "base/log.h"

#define K	  1024ull
#define M	  (1024ull * 1024)
#define G	  (1024ull * 1024 * 1024)
#define MINUTE	  60ull
#define HOUR	  3600ull
#define DAY	  86400ull
#define AT(field) offsetof(struct conf, field)

#define COLUMN(row, field) offsetof(struct row, field)
#define TABLE(columns, row, count, max)                                         \
	{                                                                       \
		columns, ARRAY_LEN(columns), sizeof(struct row), max, AT(count) \
	}

static const struct conf_option cert_columns[] = {
	{ .name = "chain", .type = CONF_TEXT, .offset = COLUMN(conf_cert, chain_file) },
	{ .name = "key", .type = CONF_TEXT, .offset = COLUMN(conf_cert, key_file) },
};
static const struct conf_table certs = TABLE(cert_columns, conf_cert, n_certs, CONF_MAX_CERTS);

static const struct conf_option oauth_columns[] = {
	{ .name = "issuer", .type = CONF_TEXT, .offset = COLUMN(conf_oauth, issuer) },
	{ .name = "audience", .type = CONF_TEXT, .offset = COLUMN(conf_oauth, audience) },
	{ "jwks_file", CONF_TEXT, "", .offset = COLUMN(conf_oauth, jwks_file) },
	{ "jwks_url", CONF_TEXT, "", .offset = COLUMN(conf_oauth, jwks_url) },
	{ "introspection_url", CONF_TEXT, "", .offset = COLUMN(conf_oauth, introspection_url) },
	{ "client_id", CONF_TEXT, "", .offset = COLUMN(conf_oauth, client_id) },
	{ "secret_file", CONF_TEXT, "", .offset = COLUMN(conf_oauth, secret_file) },
	{ "claim", CONF_TEXT, "email", .offset = COLUMN(conf_oauth, claim) },
};
static const struct conf_table oauth = TABLE(oauth_columns, conf_oauth, n_oauth, CONF_MAX_OAUTH);

static const struct conf_option relay_host_columns[] = {
	{ .name = "name", .type = CONF_TEXT, .offset = COLUMN(conf_relay_host, name) },
	{ .name = "host", .type = CONF_TEXT, .offset = COLUMN(conf_relay_host, host) },
	{ "port", CONF_COUNT, "25", 1, 65535, .offset = COLUMN(conf_relay_host, port) },
	{ "tls", CONF_CHOICE, "verify", .choices = "none|may|must|verify|implicit",
	  .offset = COLUMN(conf_relay_host, tls) },
	{ "lmtp", CONF_BOOL, "no", .offset = COLUMN(conf_relay_host, lmtp) },
	{ "user", CONF_TEXT, "", .offset = COLUMN(conf_relay_host, user) },
	{ "password_file", CONF_TEXT, "", .offset = COLUMN(conf_relay_host, password_file) },
};
static const struct conf_table relay_hosts = TABLE(relay_host_columns, conf_relay_host,
						   n_relay_hosts, CONF_MAX_RELAY_HOSTS);

static const struct conf_option rule_columns[] = {
	{ "match", CONF_TEXT, NULL, .offset = COLUMN(conf_rule, match) },
	{ "priority", CONF_COUNT, "0", 0, 9, .offset = COLUMN(conf_rule, min_priority) },
	{ "first", CONF_DURATION, "0s", 0, DAY, .offset = COLUMN(conf_rule, first) },
	{ "factor", CONF_COUNT, "0", 0, 1000, .offset = COLUMN(conf_rule, factor) },
	{ "max", CONF_DURATION, "0s", 0, 7 * DAY, .offset = COLUMN(conf_rule, max) },
	{ "lifetime", CONF_DURATION, "0s", 0, 60 * DAY, .offset = COLUMN(conf_rule, lifetime) },
};
static const struct conf_option verp_columns[] = {
	{ .name = "sender", .type = CONF_TEXT, .offset = COLUMN(conf_verp, sender) },
};
static const struct conf_table verp = TABLE(verp_columns, conf_verp, n_verp, CONF_MAX_VERP);

static const struct conf_table rules = TABLE(rule_columns, conf_rule, n_retry_rules,
					     CONF_MAX_RULES);

static const struct conf_option route_columns[] = {
	{ "domain", CONF_TEXT, "*", .offset = COLUMN(conf_route, domain) },
	{ "sender", CONF_TEXT, "", .offset = COLUMN(conf_route, sender) },
	{ .name = "to", .type = CONF_TEXT, .offset = COLUMN(conf_route, to) },
};
static const struct conf_table routes = TABLE(route_columns, conf_route, n_routes, CONF_MAX_ROUTES);

static const struct conf_option filter_columns[] = {
	{ .name = "name", .type = CONF_TEXT, .offset = COLUMN(conf_filter, name) },
	{ .name = "kind",
	  .type = CONF_CHOICE,
	  .choices = "milter|clamd|http",
	  .offset = COLUMN(conf_filter, kind) },
	{ .name = "address", .type = CONF_TEXT, .offset = COLUMN(conf_filter, address) },
	{ "for", CONF_CHOICE, "all", .choices = "all|inbound|submission",
	  .offset = COLUMN(conf_filter, applies) },
	{ "stages", CONF_CHOICE, "auto", .choices = "auto|all|message",
	  .offset = COLUMN(conf_filter, stages) },
	{ "timeout", CONF_DURATION, "30s", 1, HOUR, .offset = COLUMN(conf_filter, timeout) },
	{ "timeout_message", CONF_DURATION, "4m", 1, HOUR,
	  .offset = COLUMN(conf_filter, timeout_message) },
	{ "on_error", CONF_CHOICE, "defer", .choices = "accept|defer|reject",
	  .offset = COLUMN(conf_filter, on_error) },
	{ "max_size", CONF_SIZE, "2G", 1, 2 * G, .offset = COLUMN(conf_filter, max_size) },
	{ "too_large", CONF_CHOICE, "accept", .choices = "accept|defer|reject",
	  .offset = COLUMN(conf_filter, too_large) },
	{ "on_find", CONF_CHOICE, "reject", .choices = "reject|quarantine|header",
	  .offset = COLUMN(conf_filter, on_find) },
	{ "body", CONF_SIZE, "0", 0, 64 * M, .offset = COLUMN(conf_filter, body) },
};
static const struct conf_table filters = TABLE(filter_columns, conf_filter, n_filters,
					       CONF_MAX_FILTERS);

const struct conf_option conf_options[] = {
	{ "server.hostname", CONF_TEXT, "", 0, 0, NULL, CONF_RELOAD,
	  "The fully qualified name this server greets with. Must be set.", AT(hostname) },
	{ "server.data", CONF_TEXT, "/var/lib/postrider", 0, 0, NULL, CONF_RESTART,
	  "The directory that holds everything durable. Made by setup; only the server's users can "
	  "read what is in it.",
	  AT(data_dir) },
	{ "server.user.front", CONF_TEXT, "postrider-front", 0, 0, NULL, CONF_RESTART,
	  "User of the process that talks to clients, when started as root.", AT(user_front) },
	{ "server.user.core", CONF_TEXT, "postrider", 0, 0, NULL, CONF_RESTART,
	  "User of the process that owns the data, when started as root.", AT(user_core) },
	{ "server.user.out", CONF_TEXT, "postrider-out", 0, 0, NULL, CONF_RESTART,
	  "User of the process that talks to other servers and to DNS, when started as root.",
	  AT(user_out) },
	{ "server.user.keys", CONF_TEXT, "postrider-keys", 0, 0, NULL, CONF_RESTART,
	  "User of the process that holds the private keys, when started as root.", AT(user_keys) },

	{ "listen.smtp", CONF_ADDRESSES, "[::]:25", 0, 0, NULL, CONF_RESTART,
	  "Where mail from other servers arrives. Lists of ADDRESS:PORT; an empty list switches it "
	  "off.",
	  AT(listeners[0]) },
	{ "listen.submission", CONF_ADDRESSES, "[::]:587", 0, 0, NULL, CONF_RESTART,
	  "Submission by users with STARTTLS.", AT(listeners[1]) },
	{ "listen.submissions", CONF_ADDRESSES, "[::]:465", 0, 0, NULL, CONF_RESTART,
	  "Submission by users with TLS from the first byte.", AT(listeners[2]) },
	{ "listen.imap", CONF_ADDRESSES, "[::]:143", 0, 0, NULL, CONF_RESTART,
	  "IMAP with STARTTLS.", AT(listeners[3]) },
	{ "listen.imaps", CONF_ADDRESSES, "[::]:993", 0, 0, NULL, CONF_RESTART,
	  "IMAP with TLS from the first byte.", AT(listeners[4]) },
	{ "listen.pop3", CONF_ADDRESSES, "[::]:110", 0, 0, NULL, CONF_RESTART, "POP3 with STLS.",
	  AT(listeners[5]) },
	{ "listen.pop3s", CONF_ADDRESSES, "[::]:995", 0, 0, NULL, CONF_RESTART,
	  "POP3 with TLS from the first byte.", AT(listeners[6]) },
	{ "listen.proxy_from", CONF_NETWORKS, "", 0, 0, NULL, CONF_RELOAD,
	  "Networks of load balancers. A connection from there must begin with a PROXY header "
	  "(version 1 or 2) that names the client; from anywhere else such a header is an error.",
	  AT(proxy_from) },
	{ "listen.local", CONF_BOOL, "yes", 0, 0, NULL, CONF_RESTART,
	  "Whether programs of this machine may hand over mail by sendmail(1), through the socket "
	  "submit.sock in the data directory; any of its users may.",
	  AT(listen_local) },

	{ "listen.lmtp", CONF_ADDRESSES, "", 0, 0, NULL, CONF_RESTART,
	  "LMTP: mail for the mailboxes here from hosts of lmtp.from, with one answer per "
	  "recipient.",
	  AT(listeners[7]) },

	{ "tls.certificates", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Certificates: a list of {chain: FILE, key: FILE} in PEM form; the first is the default, "
	  "the "
	  "others are chosen by SNI. Without any, setup's self-signed one in the data directory "
	  "serves.",
	  AT(certs), &certs },
	{ "tls.ca", CONF_TEXT, "/etc/ssl/certs/ca-certificates.crt", 0, 0, NULL, CONF_RESTART,
	  "Trust anchors (PEM) against which the certificates of other servers are checked.",
	  AT(ca_file) },
	{ "tls.client_ca", CONF_TEXT, "", 0, 0, NULL, CONF_RELOAD,
	  "Trust anchors (PEM file) of users' certificates. With it clients of submission, IMAP and "
	  "POP3 are asked for a certificate, and may log in by EXTERNAL as an address that it names. "
	  "Empty: nobody is asked.",
	  AT(client_ca_file) },

	{ "auth.mechanisms", CONF_SET,
	  "SCRAM-SHA-256|PLAIN|LOGIN|OAUTHBEARER|XOAUTH2|EXTERNAL", 0, 0,
	  "SCRAM-SHA-256-PLUS|SCRAM-SHA-256|SCRAM-SHA-1-PLUS|SCRAM-SHA-1|PLAIN|LOGIN|OAUTHBEARER|"
	  "XOAUTH2|EXTERNAL",
	  CONF_RELOAD,
	  "How clients may log in, always over TLS. The -PLUS forms bind a login to its connection, "
	  "so that nobody can pass it on; they are not among the defaults because some clients, mutt "
	  "as built by Debian among them, choose them when they are offered and then fail. Add them "
	  "where all clients are known to manage. Without PLAIN no password may be shown by IMAP LOGIN and "
	  "POP3 USER either. OAUTHBEARER and XOAUTH2 need auth.oauth, EXTERNAL needs tls.client_ca.",
	  AT(auth_mechanisms) },
	{ "auth.oauth", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Who issues OAuth tokens that are taken here: a list of {issuer: URL, audience: NAME, "
	  "jwks_file: FILE, jwks_url: URL, introspection_url: URL, client_id: NAME, secret_file: "
	  "FILE, claim: email}; issuer and audience must be given. A JWT is checked with the keys of "
	  "jwks_file or jwks_url (RS256, ES256, EdDSA), any other token by asking introspection_url, "
	  "as client_id with the first line of secret_file. claim names the one that holds the "
	  "user's address. Files are read at start and reload: secret_file needs to be readable for root "
	  "only, jwks_file for server.user.core too.",
	  AT(oauth), &oauth },

	{ "limits.message", CONF_SIZE, "50M", 1 * K, 2 * G, NULL, CONF_RELOAD,
	  "The largest message that is accepted.", AT(max_message) },
	{ "limits.recipients", CONF_COUNT, "1000", 100, 100000, NULL, CONF_RELOAD,
	  "Recipients of one transaction; more are answered 452 (RFC 5321 4.5.3.1.10).",
	  AT(max_rcpts) },
	{ "limits.connections", CONF_COUNT, "20000", 10, 1000000, NULL, CONF_RELOAD,
	  "Client connections in all. Programs of one user of this machine get a fourth of them.",
	  AT(max_connections) },
	{ "limits.connections_per_ip", CONF_COUNT, "200", 1, 1000000, NULL, CONF_RELOAD,
	  "Client connections of one IP address (IPv6: one /64).", AT(max_per_ip) },
	{ "limits.trusted", CONF_NETWORKS, "127.0.0.0/8 ::1", 0, 0, NULL, CONF_RELOAD,
	  "Networks that are never limited, slowed down or banned.", AT(trusted) },
	{ "limits.net_factor", CONF_COUNT, "4", 1, 256, NULL, CONF_RELOAD,
	  "How many times the connections, rates and failures of one address its whole network "
	  "(IPv4 /24, IPv6 /48) may have.",
	  AT(net_factor) },
	{ "limits.connection_rate", CONF_COUNT, "300", 0, 1000000, NULL, CONF_RELOAD,
	  "New connections of one IP address (IPv6: one /64) in a minute; 0 sets no limit.",
	  AT(connection_rate) },
	{ "limits.message_rate", CONF_COUNT, "600", 0, 1000000, NULL, CONF_RELOAD,
	  "Messages that one IP address may send in a minute; 0 sets no limit.", AT(message_rate) },
	{ "limits.recipient_rate", CONF_COUNT, "3000", 0, 10000000, NULL, CONF_RELOAD,
	  "Recipients that one IP address may name in a minute; 0 sets no limit.",
	  AT(recipient_rate) },
	{ "limits.unknown_recipients", CONF_COUNT, "100", 0, 1000000, NULL, CONF_RELOAD,
	  "Recipients that nobody here has, which one IP address may name in an hour; after that "
	  "its sessions end with 421. 0 sets no limit.",
	  AT(unknown_rcpts) },
	{ "limits.auth_failures", CONF_COUNT, "10", 0, 1000000, NULL, CONF_RELOAD,
	  "Different wrong passwords of one IP address in an hour; one more and it is banned. 0 "
	  "sets no limit.",
	  AT(auth_failures) },
	{ "limits.ban", CONF_DURATION, "1h", 0, 365 * DAY, NULL, CONF_RELOAD,
	  "How long a ban for wrong passwords lasts; 0 bans nobody.", AT(ban_time) },
	{ "limits.greet_delay", CONF_DURATION, "0s", 0, 30, NULL, CONF_RELOAD,
	  "Wait before the greeting of port 25. Who speaks before it is no mail server and is sent "
	  "away; 0 greets at once.",
	  AT(greet_delay) },
	{ "limits.tarpit", CONF_DURATION, "8s", 0, 60, NULL, CONF_RELOAD,
	  "The longest that an answer is held back from a session that makes errors; 0 never "
	  "waits.",
	  AT(tarpit_max) },
	{ "limits.preauth", CONF_DURATION, "5m", 10, DAY, NULL, CONF_RELOAD,
	  "The time a session has in all until it has logged in or, on port 25, named a recipient.",
	  AT(preauth_timeout) },
	{ "limits.memory", CONF_SIZE, "256M", 16 * M, 1024 * G, NULL, CONF_RELOAD,
	  "Memory for what waits for clients or came from them, of all sessions. From three "
	  "quarters of it on, a new one is refused and those that hold most are closed.",
	  AT(front_memory) },
	{ "limits.hops", CONF_COUNT, "50", 5, 1000, NULL, CONF_RELOAD,
	  "A message with more Received fields than this is in a loop and is refused.",
	  AT(max_received) },
	{ "limits.smtp_idle", CONF_DURATION, "5m", 10, DAY, NULL, CONF_RELOAD,
	  "An SMTP session that says nothing for this long is closed.", AT(smtp_timeout) },
	{ "limits.imap_idle", CONF_DURATION, "30m", 10, DAY, NULL, CONF_RELOAD,
	  "An IMAP session that says nothing for this long is closed (RFC 3501 5.4: at least 30 "
	  "minutes).",
	  AT(imap_timeout) },
	{ "limits.pop3_idle", CONF_DURATION, "10m", 10, DAY, NULL, CONF_RELOAD,
	  "A POP3 session that says nothing for this long is closed (RFC 1939 3: at least 10 "
	  "minutes).",
	  AT(pop3_timeout) },

	{ "filter.chain", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Programs that judge messages before they are accepted, asked in this order: a list of "
	  "{name: NAME, kind: milter|clamd|http, address: ADDRESS:PORT or URL, for: "
	  "all|inbound|submission, stages: auto|all|message, timeout: 30s, timeout_message: 4m, "
	  "on_error: accept|defer|reject, max_size: 2G, too_large: accept|defer|reject, on_find: "
	  "reject|quarantine|header, body: 0}; name, kind and address must be given. The guide to "
	  "filters (docs/filters.md) tells what each of them means.",
	  AT(filters), &filters },

	{ "submission.from", CONF_CHOICE, "owned", 0, 0, "owned|any", CONF_RELOAD,
	  "Which addresses a user may put into the From field: own ones only, or any. Accounts and "
	  "domains "
	  "can say otherwise. The envelope sender must always be an own address.",
	  AT(submission_from) },

	{ "smtp.xclient_from", CONF_NETWORKS, "", 0, 0, NULL, CONF_RELOAD,
	  "Networks of proxies that may say by XCLIENT for which client they speak; they are "
	  "believed.",
	  AT(xclient_from) },
	{ "smtp.etrn_from", CONF_NETWORKS, "", 0, 0, NULL, CONF_RELOAD,
	  "Networks of clients that may have the mail that waits for a domain sent at once (ETRN).",
	  AT(etrn_from) },
	{ "lmtp.from", CONF_NETWORKS, "127.0.0.0/8 ::1", 0, 0, NULL, CONF_RELOAD,
	  "Networks of the hosts that may deliver by LMTP.", AT(lmtp_from) },

	{ "submission.hold", CONF_DURATION, "30d", 0, 365 * DAY, NULL, CONF_RELOAD,
	  "How long a client may ask a message to be held before it is sent (FUTURERELEASE); 0 "
	  "switches that off.",
	  AT(submission_hold) },

	{ "trust.check", CONF_CHOICE, "remote", 0, 0, "remote|all|none", CONF_RELOAD,
	  "Whose mail is checked for its sender (SPF, DKIM, ARC, DMARC, the client's name): that "
	  "of "
	  "other hosts, that of clients on this machine too, or nobody's. Users who logged in are "
	  "not, nor is what comes by LMTP.",
	  AT(trust_check) },
	{ "trust.dmarc", CONF_CHOICE, "enforce", 0, 0, "enforce|junk|report", CONF_RELOAD,
	  "What becomes of mail that fails DMARC: what the author's domain asks for, the Junk "
	  "mailbox "
	  "even where it asks for a refusal, or nothing but a note in Authentication-Results. Mail "
	  "without exactly one author goes to the Junk mailbox in the first two cases.",
	  AT(trust_dmarc) },
	{ "trust.sealers", CONF_TEXT, "", 0, 0, NULL, CONF_RELOAD,
	  "Domains, with spaces between them, whose ARC seal is believed: mail that they passed "
	  "on, and "
	  "that was authentic when they got it, is not refused by DMARC.",
	  AT(trust_sealers) },

	{ "forward.srs", CONF_BOOL, "yes", 0, 0, NULL, CONF_RELOAD,
	  "Whether what aliases send on to other hosts for foreign senders gets a reverse-path of "
	  "this server (SRS), so that it passes SPF there and bounces find back. The header stays "
	  "as it is.",
	  AT(srs) },
	{ "forward.srs_domain", CONF_TEXT, "", 0, 0, NULL, CONF_RELOAD,
	  "Domain of such reverse-paths; empty takes server.hostname. Mail for it must arrive "
	  "here, "
	  "and its SPF record must name this server.",
	  AT(srs_domain) },

	{ "relay.port", CONF_COUNT, "25", 1, 65535, NULL, CONF_RELOAD,
	  "The port on which other domains' mail servers are reached.", AT(relay_port) },
	{ "relay.source", CONF_TEXT, "", 0, 0, NULL, CONF_RELOAD,
	  "Source address of outgoing connections; empty lets the system choose.",
	  AT(relay_source) },
	{ "relay.ipv6", CONF_BOOL, "yes", 0, 0, NULL, CONF_RELOAD,
	  "Whether other servers are also reached over IPv6.", AT(relay_ipv6) },
	{ "relay.per_destination", CONF_COUNT, "20", 1, 1000, NULL, CONF_RELOAD,
	  "Connections to one destination at the same time, or to all that lead to the same hosts. "
	  "The server begins with two, adds more while all goes well, and halves them when a "
	  "destination fails, is late or answers 421; after three failures in a row it waits, and "
	  "then tries with one.",
	  AT(relay_per_destination) },
	{ "relay.connections", CONF_COUNT, "4000", 10, 50000, NULL, CONF_RELOAD,
	  "Outgoing connections at the same time, all destinations together. Destinations that "
	  "never answered yet may have three quarters of them, those that failed last a half. "
	  "The limit of open files is raised at the start only.",
	  AT(relay_connections) },

	{ "relay.chunking", CONF_BOOL, "no", 0, 0, NULL, CONF_RELOAD,
	  "Whether messages go out with BDAT instead of DATA to servers that offer CHUNKING. It "
	  "spares a "
	  "round trip with those that do not offer PIPELINING.",
	  AT(relay_chunking) },
	{ "relay.verp", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Senders whose mail goes out with a reverse-path for each recipient (VERP), so that a "
	  "bounce "
	  "names the address that failed: a list of {sender: SENDER}, which is user@example.org or "
	  "@example.org. news@example.org writes to amy@example.net as "
	  "news+amy=example.net@example.org.",
	  AT(verp), &verp },
	{ "relay.hosts", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Named hosts for the route via:NAME: a list of {name: NAME, host: HOST, port: 25, tls: "
	  "verify, lmtp: no, user: USER, password_file: FILE}; name and host must be given. tls is "
	  "none, may (if offered), must (any certificate), verify (a certificate for HOST), or "
	  "implicit (the same, from the first byte). With lmtp the host is spoken to in LMTP. With "
	  "user the first line of password_file proves who we are; it is read at start and reload.",
	  AT(relay_hosts), &relay_hosts },

	{ "relay.routes", CONF_ROWS, "", 0, 0, NULL, CONF_RELOAD,
	  "Ways of mail for other hosts: a list of {domain: DOMAIN, sender: SENDER, to: WAY}, of "
	  "which "
	  "the first that fits decides; where none does, the domain's MX hosts get it. DOMAIN is "
	  "example.org, .example.org (and all below it) or *, the default; SENDER is "
	  "user@example.org "
	  "or @example.org, whoever if it is not given. WAY is mx, smtp:[HOST]:PORT, "
	  "lmtp:[HOST]:PORT, smtp:DOMAIN (the MX hosts of that one), via:NAME (of relay.hosts), or "
	  "\"refuse: TEXT\".",
	  AT(routes), &routes },

	{ "queue.shards", CONF_COUNT, "4", 1, 64, NULL, CONF_RESTART,
	  "Databases the queue is spread over. Fixed once the queue exists.", AT(queue_shards) },
	{ "queue.retry_first", CONF_DURATION, "5m", 1, DAY, NULL, CONF_RELOAD,
	  "Wait after the first failed attempt.", AT(retry_first) },
	{ "queue.retry_factor", CONF_COUNT, "200", 100, 1000, NULL, CONF_RELOAD,
	  "Percent by which each further wait grows.", AT(retry_factor) },
	{ "queue.retry_max", CONF_DURATION, "4h", 1, 7 * DAY, NULL, CONF_RELOAD,
	  "The longest wait.", AT(retry_max) },
	{ "queue.retry_jitter", CONF_COUNT, "10", 0, 50, NULL, CONF_RELOAD,
	  "Percent by which each wait is varied at random, so that retries do not come in waves.",
	  AT(retry_jitter) },
	{ "queue.rules", CONF_ROWS,
	  "[{match: greylist, first: 2m, factor: 150, max: 30m}, "
	  "{match: mailbox_full, first: 30m, max: 12h}, "
	  "{match: any, priority: 4, first: 1m, factor: 150, max: 30m}]",
	  0, 0, NULL, CONF_RELOAD,
	  "Other schedules by what the last attempt ran into: a list of {match: WHAT, priority: N, "
	  "first: TIME, factor: PERCENT, max: TIME, lifetime: TIME}. The first that matches "
	  "decides; what it leaves out or sets to 0 is as above. A match is greylist, "
	  "mailbox_full, "
	  "connect (no connection, or it was lost), dns, tls, any, a reply code such as 421, or an "
	  "enhanced code such as 4.7.1 or 4.7. With a priority the rule is for messages of at "
	  "least "
	  "that priority (RFC 6710).",
	  AT(retry_rules), &rules },
	{ "queue.lifetime", CONF_DURATION, "5d", MINUTE, 60 * DAY, NULL, CONF_RELOAD,
	  "After this time without success the sender gets the message back.", AT(retry_lifetime) },
	{ "queue.warn_after", CONF_DURATION, "4h", 0, 60 * DAY, NULL, CONF_RELOAD,
	  "After this time without success the sender is told once that the message still waits; 0 "
	  "never.",
	  AT(warn_after) },

	{ "store.handles", CONF_COUNT, "500", 8, 100000, NULL, CONF_RESTART,
	  "Account databases kept open (about 200 KiB and 3 file descriptors each).",
	  AT(store_handles) },
	{ "store.commit_log", CONF_SIZE, "32M", 0, 1 * G, NULL, CONF_RESTART,
	  "Size of each half of the log through which the commits of all databases are synced "
	  "together; 0 syncs each database by itself.",
	  AT(commit_log) },
	{ "store.inline", CONF_SIZE, "128K", 1 * K, 1 * M, NULL, CONF_RELOAD,
	  "Bodies up to this size are kept inside the databases, larger ones as files.",
	  AT(inline_max) },

	{ "dns.forward", CONF_TEXT, "", 0, 0, NULL, CONF_RESTART,
	  "ADDRESS@PORT of a resolver that is asked for everything; empty resolves from the root.",
	  AT(dns_forward) },
	{ "dns.stub_zone", CONF_TEXT, "", 0, 0, NULL, CONF_RESTART,
	  "A zone that is asked at dns.stub instead.", AT(dns_stub_zone) },
	{ "dns.stub", CONF_TEXT, "", 0, 0, NULL, CONF_RESTART, "ADDRESS@PORT for dns.stub_zone.",
	  AT(dns_stub) },
	{ "dns.anchor", CONF_TEXT, "", 0, 0, NULL, CONF_RESTART,
	  "File with DNSSEC trust anchors; empty uses the root's built-in one.",
	  AT(dns_anchor_file) },
	{ "dns.allow_local", CONF_BOOL, "no", 0, 0, NULL, CONF_RESTART,
	  "Whether name servers on loopback and private addresses may be asked, and names under "
	  ".test.",
	  AT(dns_allow_local) },

	{ "workers.interactive", CONF_COUNT, "8", 1, 256, NULL, CONF_RESTART,
	  "Threads for protocol commands.", AT(threads_interactive) },
	{ "workers.auth", CONF_COUNT, "2", 1, 64, NULL, CONF_RESTART,
	  "Threads that check passwords (each takes 19 MiB while it does).", AT(threads_auth) },
	{ "workers.delivery", CONF_COUNT, "16", 1, 256, NULL, CONF_RESTART,
	  "Threads that accept and deliver mail.", AT(threads_delivery) },
	{ "workers.spool", CONF_COUNT, "2", 1, 64, NULL, CONF_RESTART,
	  "Threads that write large bodies while they arrive.", AT(threads_spool) },
	{ "workers.maintenance", CONF_COUNT, "1", 1, 16, NULL, CONF_RESTART,
	  "Threads for work that can wait.", AT(threads_maintenance) },
	{ "workers.front_loops", CONF_COUNT, "0", 0, 64, NULL, CONF_RESTART,
	  "Event loops that talk to clients; 0 takes one per processor.", AT(front_loops) },

	{ "log.level", CONF_CHOICE, "info", 0, 0, "debug|info|notice|warning|error|alarm",
	  CONF_RELOAD, "The least level that is logged.", AT(log_level) },
	{ "log.format", CONF_CHOICE, "logfmt", 0, 0, "logfmt|json|maillog", CONF_RELOAD,
	  "Form of the log's lines: words with values, JSON, or lines that look like those of Postfix, for tools "
	  "that read them (the program is called postrider).", AT(log_format) },
	{ "events.retention", CONF_DURATION, "30d", HOUR, 3650 * DAY, NULL, CONF_RELOAD,
	  "How long the timeline of messages is kept.", AT(events_retention) },
	{ "lab.enabled", CONF_BOOL, "no", 0, 0, NULL, CONF_RESTART,
	  "Laboratory: the admin socket may turn the clock. Never on a real server.", AT(lab) },
};
const size_t conf_n_options = ARRAY_LEN(conf_options);

const struct conf_option *conf_option_find(span dotted)
{
	for (size_t i = 0; i < conf_n_options; i++)
		if (span_eq_str(dotted, conf_options[i].name))
			return &conf_options[i];
	return NULL;
}
