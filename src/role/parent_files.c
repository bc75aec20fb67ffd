/* What the parent reads and prepares on disk, as root where it was started so: the roles then never
 * need to. */
#include "role/parent_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "sys/channel.h"
#include "sys/file.h"
#include "sys/spawn.h"
#include "tls/hash.h"
#include "tls/keys.h"

#define PEM_MAX		  (64u * 1024)
#define CA_MAX		  (4u * 1024 * 1024)
#define PASSWORD_FILE_MAX 1024u
#define SELF_SIGNED_DAYS  3650

void parent_wipe(struct buf *b)
{
	secret_wipe(b->p, b->n);
	buf_done(b);
}

static int read_text(const char *path, size_t max, struct buf *b, const char *what,
		     struct err_info *info)
{
	int e;

	buf_done(b);
	buf_init(b, max);
	e = file_read(path, max, b);
	return e < 0 ? err_set(info, e, "%s: %s: %s", what, path, err_text(e)) : 0;
}

/* The certificate that serves until a real one is configured; made once. */
static int read_self_signed(struct parent *p, struct err_info *info)
{
	struct parent_cert *c = &p->certs[0];
	char chain[4096], key[4096];
	int e;

	snprintf(chain, sizeof chain, "%.*s/keys/self-signed.pem", SPAN_FMT(p->conf->data_dir));
	snprintf(key, sizeof key, "%.*s/keys/self-signed.key", SPAN_FMT(p->conf->data_dir));
	p->n_certs = 1;
	if (read_text(chain, PEM_MAX, &c->chain, "certificate", info) == 0 &&
	    read_text(key, PEM_MAX, &c->key, "private key", info) == 0)
		return 0;
	buf_done(&c->chain);
	buf_done(&c->key);
	buf_init(&c->chain, PEM_MAX);
	buf_init(&c->key, PEM_MAX);
	e = keys_self_signed(p->conf->hostname, clock_wall(), SELF_SIGNED_DAYS, &c->chain, &c->key);
	if (e == 0)
		e = file_replace(key, buf_span(&c->key), 0600);
	if (e == 0)
		e = file_replace(chain, buf_span(&c->chain), 0600);
	return e < 0 ? err_set(info, e, "cannot make a self-signed certificate in %s: %s", chain,
			       err_text(e))
		     : 0;
}

static int read_certs(struct parent *p, struct err_info *info)
{
	char path[4096];
	int e;

	if (!p->conf->n_certs)
		return read_self_signed(p, info);
	for (size_t i = 0; i < p->conf->n_certs; i++) {
		snprintf(path, sizeof path, "%.*s", SPAN_FMT(p->conf->certs[i].chain_file));
		e = read_text(path, PEM_MAX, &p->certs[i].chain, "certificate", info);
		if (e < 0)
			return e;
		snprintf(path, sizeof path, "%.*s", SPAN_FMT(p->conf->certs[i].key_file));
		e = read_text(path, PEM_MAX, &p->certs[i].key, "private key", info);
		if (e < 0)
			return e;
	}
	p->n_certs = p->conf->n_certs;
	return 0;
}

/* The first line of FILE, which OPTION names; an empty path is none. */
static int read_password(struct parent *p, const char *option, span file, struct err_info *info)
{
	_cleanup_(buf_donep) struct buf text = BUF_INIT(0);
	char path[4096];
	span rest, line;
	int e;

	if (!file.n)
		return 0;
	snprintf(path, sizeof path, "%.*s", SPAN_FMT(file));
	e = read_text(path, PASSWORD_FILE_MAX, &text, option, info);
	if (e < 0)
		return e;
	rest = buf_span(&text);
	line = span_cut(&rest, '\n');
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	buf_put_blob(&p->passwords, file);
	buf_put_blob(&p->passwords, line);
	secret_wipe(text.p, text.n);
	return line.n ? 0
		      : err_set(info, ERR_INVAL, "%s: %s: the first line is empty", option, path);
}

static int read_passwords(struct parent *p, struct err_info *info)
{
	int e = 0;

	parent_wipe(&p->passwords);
	buf_init(&p->passwords, CHANNEL_MAX);
	for (size_t i = 0; e == 0 && i < p->conf->n_relay_hosts; i++)
		e = read_password(p, "relay.hosts: password_file",
				  p->conf->relay_hosts[i].password_file, info);
	for (size_t i = 0; e == 0 && i < p->conf->n_oauth; i++)
		e = read_password(p, "auth.oauth: secret_file", p->conf->oauth[i].secret_file,
				  info);
	return e;
}

int parent_read_files(struct parent *p, struct err_info *info)
{
	char path[4096];
	int e = read_certs(p, info);

	if (e == 0)
		e = read_passwords(p, info);
	if (e < 0)
		return e;
	snprintf(path, sizeof path, "%.*s", SPAN_FMT(p->conf->ca_file));
	if (read_text(path, CA_MAX, &p->ca, "tls.ca", info) < 0)
		log_event(LOG_WARNING, "parent.no_ca", F_STR("why", info->text));
	buf_done(&p->client_ca);
	if (p->conf->client_ca_file.n) {
		snprintf(path, sizeof path, "%.*s", SPAN_FMT(p->conf->client_ca_file));
		e = read_text(path, PEM_MAX, &p->client_ca, "tls.client_ca", info);
		if (e < 0)
			return e;
	}
	if (p->conf->dns_anchor_file.n) {
		snprintf(path, sizeof path, "%.*s", SPAN_FMT(p->conf->dns_anchor_file));
		return read_text(path, PEM_MAX, &p->anchor, "dns.anchor", info);
	}
	return 0;
}

/* A directory of the data folder, owned by USER when we are root. */
static int make_dir(struct parent *p, const char *name, span user, unsigned mode,
		    struct err_info *info)
{
	char path[4096], who[128];
	uid_t uid;
	gid_t gid;
	int e;

	snprintf(path, sizeof path, "%.*s%s%s", SPAN_FMT(p->conf->data_dir), *name ? "/" : "",
		 name);
	e = file_mkdirs(path);
	if (e < 0)
		return err_set(info, e, "cannot make %s: %s", path, err_text(e));
	if (geteuid() != 0)
		return 0;
	snprintf(who, sizeof who, "%.*s", SPAN_FMT(user));
	e = spawn_find_user(who, &uid, &gid, info);
	if (e < 0)
		return e;
	/* The folder above belongs to a role: a link put there must not lead root elsewhere. */
	_cleanup_(close_fdp) int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || fchown(dir, uid, gid) != 0 || fchmod(dir, mode) != 0)
		return err_set(info, err_from_errno(errno), "cannot hand %s to %s: %s", path, who,
			       strerror(errno));
	return 0;
}

int parent_prepare_data(struct parent *p, struct err_info *info)
{
	static const char *const dirs[] = { "", "queue", "accounts", "events", "spool" };
	char path[4096];
	int e;

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		e = make_dir(p, dirs[i], p->conf->user_core, i ? 0700 : 0711, info);
		if (e < 0)
			return e;
	}
	e = make_dir(p, "keys", p->conf->user_keys, 0700, info);
	if (e < 0)
		return e;
	snprintf(path, sizeof path, "%.*s/lock", SPAN_FMT(p->conf->data_dir));
	p->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->lock < 0)
		return err_set(info, err_from_errno(errno), "cannot open %s: %s", path,
			       strerror(errno));
	if (fcntl(p->lock, F_OFD_SETLK,
		  &(struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET }) != 0)
		return err_set(info, ERR_BUSY, "another postrider serves %.*s",
			       SPAN_FMT(p->conf->data_dir));
	return 0;
}

static int add_listener(struct parent *p, int fd, enum sess_proto proto, bool implicit_tls,
			struct err_info *info)
{
	if (fd >= 0 && p->n_listeners == ARRAY_LEN(p->listeners)) {
		close(fd);
		return err_set(info, ERR_TOOBIG, "more than %zu listening addresses",
			       ARRAY_LEN(p->listeners));
	}
	if (fd < 0)
		return fd;
	p->listeners[p->n_listeners] = fd;
	p->listener_ids[p->n_listeners++] = (uint64_t)proto | (uint64_t)implicit_tls << 8;
	return 0;
}

static int listen_one(struct parent *p, const struct conf_listener *l, span text,
		      struct err_info *info)
{
	struct sockaddr_any a;

	if (sock_parse(text, &a) < 0)
		return err_set(info, ERR_INVAL, "not an address: %.*s", SPAN_FMT(text));
	return add_listener(p, sock_listen(&a, 1024, info), l->proto, l->implicit_tls, info);
}

/* For sendmail(1): anybody of this machine may open it, and front hears who it is. */
static int listen_local(struct parent *p, struct err_info *info)
{
	char path[4096];

	if (!p->conf->listen_local)
		return 0;
	snprintf(path, sizeof path, "%.*s/submit.sock", SPAN_FMT(p->conf->data_dir));
	return add_listener(p, sock_listen_unix(path, 0666, info), SESS_PROTO_LOCAL, false, info);
}

int parent_listen(struct parent *p, struct err_info *info)
{
	char path[4096], who[128];
	uid_t uid;
	gid_t gid;
	int e;

	for (size_t i = 0; i < CONF_LISTENERS; i++) {
		const struct conf_listener *l = &p->conf->listeners[i];

		for (size_t k = 0; k < l->n; k++) {
			e = listen_one(p, l, l->addresses[k], info);
			if (e < 0)
				return e;
		}
	}
	e = listen_local(p, info);
	if (e < 0)
		return e;
	snprintf(path, sizeof path, "%.*s/admin.sock", SPAN_FMT(p->conf->data_dir));
	p->admin_listener = sock_listen_unix(path, 0600, info);
	if (p->admin_listener < 0)
		return p->admin_listener;
	snprintf(who, sizeof who, "%.*s", SPAN_FMT(p->conf->user_core));
	if (geteuid() == 0 && spawn_find_user(who, &uid, &gid, info) == 0 &&
	    lchown(path, uid, gid) != 0)
		return err_set(info, err_from_errno(errno), "%s: %s", path, strerror(errno));
	return 0;
}

void parent_files_done(struct parent *p)
{
	for (size_t i = 0; i < ARRAY_LEN(p->certs); i++) {
		buf_done(&p->certs[i].chain);
		buf_done(&p->certs[i].key);
	}
	buf_done(&p->ca);
	buf_done(&p->anchor);
	buf_done(&p->client_ca);
	parent_wipe(&p->passwords);
	buf_done(&p->conf_text);
	for (size_t i = 0; i < p->n_listeners; i++)
		close(p->listeners[i]);
	if (p->admin_listener >= 0)
		close(p->admin_listener);
	if (p->lock >= 0)
		close(p->lock);
	conf_unref(p->conf);
}
