/* What the lab needs on disk before its servers start. */
#include "lab/lab_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/id.h"
#include "sys/file.h"
#include "sys/sock.h"
#include "tls/keys.h"

#define DAYS	 365
#define ROLE_UID 61101 /* first of four; any that nobody has */

const char *const lab_port_names[LAB_PORTS] = { "smtp",	 "submission", "submissions", "imap",
						"imaps", "pop3",       "pop3s",	      "lmtp" };

/* ------------------------------------------------------------------ addresses and ports */

static bool port_free(const char *address, uint16_t port)
{
	_cleanup_(close_fdp) int fd = -1;
	struct sockaddr_any a;

	if (sock_parse_ip(span_str(address), port, &a) < 0)
		return false;
	fd = sock_listen(&a, 1, NULL);
	return fd >= 0;
}

/* A loopback pair that is this lab's own, and one MX port that is free on both. */
static void choose_addresses(struct lab *l)
{
	do {
		unsigned x = 1 + (unsigned)random_below(254), y = 1 + (unsigned)random_below(254);

		for (int i = 0; i < LAB_HOSTS; i++)
			snprintf(l->hosts[i].address, sizeof l->hosts[i].address, "127.%u.%u.%d", x,
				 y, i + 1);
		l->mx_port = (uint16_t)(10000 + random_below(20000));
	} while (!port_free(l->hosts[0].address, l->mx_port) ||
		 !port_free(l->hosts[1].address, l->mx_port));
}

/* Ports are outside the ephemeral range, so that no outgoing connection takes one meanwhile. */
static void choose_ports(struct lab *l)
{
	for (int i = 0; i < LAB_HOSTS; i++) {
		for (int k = 0; k < LAB_PORTS; k++) {
			uint16_t port;

			do
				port = (uint16_t)(10000 + random_below(20000));
			while (!port_free("127.0.0.1", port) ||
			       !port_free(l->hosts[i].address, port));
			l->hosts[i].ports[k] = port;
		}
	}
}

/* ------------------------------------------------------------------ certificates, zone */

static int write_text(const char *dir, const char *name, span text, unsigned mode,
		      struct err_info *info)
{
	char path[4300];
	int e;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	e = file_replace(path, text, mode);
	return e < 0 ? err_set(info, e, "cannot write %s: %s", path, err_text(e)) : 0;
}

static int make_certificates(struct lab *l, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf ca_pem = BUF_INIT(64 * 1024);
	usec now = clock_wall();
	struct keys_ca *ca;
	int e = keys_ca_new(SPAN("Postrider lab CA"), now, DAYS, &ca, &ca_pem);

	if (e < 0)
		return err_set(info, e, "cannot make a CA: %s", err_text(e));
	e = write_text(l->dir, "ca.pem", buf_span(&ca_pem), 0644, info);
	for (int i = 0; e == 0 && i < LAB_HOSTS; i++) {
		struct lab_host *h = &l->hosts[i];
		_cleanup_(buf_donep) struct buf cert = BUF_INIT(64 * 1024),
						key = BUF_INIT(64 * 1024);
		span names[] = { span_str(h->name), span_str(h->domain), SPAN("localhost") };
		span ips[] = { SPAN("127.0.0.1"), span_str(h->address) };

		e = keys_ca_issue(ca, names, ARRAY_LEN(names), ips, ARRAY_LEN(ips), now, DAYS,
				  &cert, &key);
		if (e == 0)
			e = write_text(h->dir, "cert.pem", buf_span(&cert), 0644, info);
		if (e == 0)
			e = write_text(h->dir, "key.pem", buf_span(&key), 0600, info);
	}
	keys_ca_free(ca);
	return e;
}

static int add_host_records(struct lab *l, const struct lab_host *h)
{
	char mx[300];
	int e = zone_add(l->zone, span_str(h->name), SPAN("A"), span_str(h->address));

	snprintf(mx, sizeof mx, "10 %s", h->name);
	return e < 0 ? e : zone_add(l->zone, span_str(h->domain), SPAN("MX"), span_str(mx));
}

static int make_zone(struct lab *l, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf more = BUF_INIT(1024 * 1024), anchor = BUF_INIT(4096);
	struct err_info line = { 0 };
	int e = 0;

	l->zone = zone_new("test");
	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = add_host_records(l, &l->hosts[i]);
	if (e == 0 && l->zone_file) {
		e = file_read(l->zone_file, more.max, &more);
		if (e < 0)
			return err_set(info, e, "%s: %s", l->zone_file, err_text(e));
		e = zone_add_file(l->zone, buf_span(&more), &line);
		if (e < 0)
			return err_set(info, ERR_SYNTAX, "%s: %s", l->zone_file, line.text);
	}
	if (e == 0)
		e = zone_sign(l->zone, clock_wall());
	if (e < 0)
		return err_set(info, e, "cannot make the zone: %s", err_text(e));
	zone_anchor(l->zone, &anchor);
	return write_text(l->dir, "anchor.ds", buf_span(&anchor), 0644, info);
}

/* ------------------------------------------------------------------ configuration */

static void put_listeners(const struct lab *l, const struct lab_host *h, struct buf *b)
{
	buf_put_str(b, "listen:\n");
	for (int k = 0; k < LAB_PORTS; k++)
		buf_printf(b, "  %s: [\"127.0.0.1:%u\", \"%s:%u\"]\n", lab_port_names[k],
			   h->ports[k], h->address, k == 0 ? l->mx_port : h->ports[k]);
}

static int write_config(struct lab *l, const struct lab_host *h, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(64 * 1024);
	static const char *const role[] = { "front", "core", "out", "keys" };

	buf_printf(&b, "server:\n  hostname: %s\n  data: %s/data\n", h->name, h->dir);
	if (geteuid() == 0) {
		buf_put_str(&b, "  user:\n");
		for (unsigned i = 0; i < ARRAY_LEN(role); i++)
			buf_printf(&b, "    %s: %u\n", role[i], ROLE_UID + i);
	}
	put_listeners(l, h, &b);
	buf_printf(
		&b,
		"tls:\n  certificates:\n    - chain: %s/cert.pem\n      key: %s/key.pem\n  ca: %s\n"
		"relay:\n  port: %u\n  source: %s\n"
		"dns:\n  stub_zone: test.\n  stub: 127.0.0.1@%u\n  anchor: %s\n  allow_local: yes\n"
		"limits:\n  connections_per_ip: 100000\nlab:\n  enabled: yes\n",
		h->dir, h->dir, l->ca_path, l->mx_port, h->address, l->dns_port, l->anchor_path);
	return write_text(h->dir, "postrider.yaml", buf_span(&b), 0644, info);
}

/* The roles run under other uids: each folder above must let them pass. */
static int check_path(const char *dir, struct err_info *info)
{
	char path[4096];
	struct stat st;

	if (geteuid() != 0)
		return 0;
	for (size_t i = 1; dir[i - 1]; i++) {
		if (dir[i] != '/' && dir[i] != 0)
			continue;
		snprintf(path, sizeof path, "%.*s", (int)i, dir);
		if (stat(path, &st) == 0 && !(st.st_mode & S_IXOTH))
			return err_set(info, ERR_PERM,
				       "the server's users cannot enter %s; choose another --dir, "
				       "or chmod o+x it",
				       path);
		if (!dir[i])
			break;
	}
	return 0;
}

/* Passwords are made once per folder, so that a lab started again knows its accounts. */
static int make_passwords(struct lab *l, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(4096), hex = BUF_INIT(4096);
	char path[4200];
	span rest;

	snprintf(path, sizeof path, "%s/passwords", l->dir);
	if (file_read(path, 4096, &b) < 0) {
		for (int i = 0; i < LAB_HOSTS * LAB_ACCOUNTS; i++)
			buf_printf(&b, "%016llx\n", (unsigned long long)random_u64());
		int e = write_text(l->dir, "passwords", buf_span(&b), 0600, info);
		if (e < 0)
			return e;
	}
	rest = buf_span(&b);
	for (int i = 0; i < LAB_HOSTS; i++)
		for (int k = 0; k < LAB_ACCOUNTS; k++) {
			span line = span_cut(&rest, '\n');

			snprintf(l->passwords[i][k], sizeof l->passwords[i][k], "%.*s",
				 (int)MIN(line.n, (size_t)20), line.p);
		}
	return 0;
}

/* A folder that holds nothing yet, or an earlier lab. */
static bool is_ours(const char *dir)
{
	char mark[4200];
	DIR *d = opendir(dir);
	bool empty = d != NULL;

	for (struct dirent *entry; d && (entry = readdir(d));)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			empty = false;
	if (d)
		closedir(d);
	snprintf(mark, sizeof mark, "%s/passwords", dir);
	return empty || access(mark, F_OK) == 0;
}

/* The folder itself: made, entered by the servers' users, and owned by one lab at a time. */
static int take_dir(struct lab *l, struct err_info *info)
{
	char real[PATH_MAX], path[4300];
	struct stat st;
	int e = file_mkdirs(l->dir);

	if (e < 0 || !realpath(l->dir, real))
		return err_set(info, e < 0 ? e : err_from_errno(errno), "cannot make %s: %s",
			       l->dir, e < 0 ? err_text(e) : strerror(errno));
	if (strlen(real) > LAB_DIR_MAX)
		return err_set(info, ERR_TOOBIG,
			       "%.60s...: more than %d bytes of path leave no room for a socket's "
			       "name below it; choose a shorter --dir",
			       real, LAB_DIR_MAX);
	snprintf(l->dir, sizeof l->dir, "%s", real);
	/* Not into somebody else's folder, least of all as root: they could turn its files into
	 * links. */
	if (stat(l->dir, &st) != 0 || st.st_uid != geteuid())
		return err_set(info, ERR_PERM, "%s belongs to another user; choose another --dir",
			       l->dir);
	if (is_ours(l->dir))
		(void)chmod(l->dir, 0711); /* check_path tells if that did not help */
	e = check_path(l->dir, info);
	if (e < 0)
		return e;
	snprintf(path, sizeof path, "%s/lock", l->dir);
	l->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (l->lock < 0)
		return err_set(info, err_from_errno(errno), "cannot write %s: %s", path,
			       strerror(errno));
	if (fcntl(l->lock, F_OFD_SETLK,
		  &(struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET }) != 0)
		return err_set(info, ERR_BUSY, "another lab runs in %s", l->dir);
	return 0;
}

int lab_prepare(struct lab *l, struct err_info *info)
{
	int e = take_dir(l, info);

	if (e < 0)
		return e;
	snprintf(l->ca_path, sizeof l->ca_path, "%s/ca.pem", l->dir);
	snprintf(l->anchor_path, sizeof l->anchor_path, "%s/anchor.ds", l->dir);
	choose_addresses(l);
	choose_ports(l);
	for (int i = 0; i < LAB_HOSTS; i++) {
		struct lab_host *h = &l->hosts[i];

		snprintf(h->dir, sizeof h->dir, "%.3900s/%s", l->dir, i ? "beta" : "alpha");
		snprintf(h->config, sizeof h->config, "%.4000s/postrider.yaml", h->dir);
		snprintf(h->admin, sizeof h->admin, "%.4000s/data/admin.sock", h->dir);
		e = file_mkdirs(h->dir);
		if (e < 0)
			return err_set(info, e, "cannot make %s: %s", h->dir, err_text(e));
		chmod(h->dir, 0711);
	}
	if ((e = make_passwords(l, info)) < 0 || (e = make_certificates(l, info)) < 0 ||
	    (e = make_zone(l, info)) < 0 ||
	    (e = responder_start(l->zone, &l->responder, &l->dns_port, info)) < 0)
		return e;
	for (int i = 0; e == 0 && i < LAB_HOSTS; i++)
		e = write_config(l, &l->hosts[i], info);
	return e;
}
