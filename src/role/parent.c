/* The parent: root where started so.  Binds ports, reads configuration, certificates and trust
 * anchors, passes bytes and fds, starts and restarts the roles.  It parses no byte of a peer.
 *
 * A role that dies is started again, at once the first time, then with a growing delay; its peers
 * get new channels to it.  SIGHUP rereads the configuration and certificates; SIGTERM drains: first
 * no new sessions, then what is under way ends, then the roles leave in the order front, out, core,
 * keys. */
#include "role/parent_int.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "mail/mail.h"
#include "sys/channel.h"
#include "sys/spawn.h"
#include "tls/tls.h"

#define RESTART_FIRST (100 * USEC_MSEC)
#define RESTART_MAX   (30 * USEC_SEC)
#define STABLE_AFTER  (60 * USEC_SEC) /* a role that lived this long starts afresh */
#define DRAIN_MAX     (20 * USEC_SEC) /* per role */
#define JOIN_MAX_S    5

static const char *const role_name[ROLE_COUNT] = { "keys", "core", "out", "front" };

static bool is_fault(int status)
{
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	return sig == SIGSEGV || sig == SIGBUS || sig == SIGABRT || sig == SIGILL ||
	       sig == SIGFPE ||
	       (WIFEXITED(status) && WEXITSTATUS(status) == 1); /* a sanitizer's exit */
}

static void role_down(struct parent *p, struct role_state *r)
{
	usec delay = RESTART_FIRST, now = clock_mono();

	if (r->control >= 0)
		close(r->control);
	r->control = -1;
	r->pid = 0;
	r->ready = false;
	if (now - r->started > STABLE_AFTER)
		r->failures = 0;
	for (unsigned i = 1; i < r->failures && delay < RESTART_MAX; i++)
		delay *= 2;
	r->retry_at = r->failures++ ? now + MIN(delay, RESTART_MAX) : now;
	if (p->stopping)
		r->retry_at = 0;
}

static void reap(struct parent *p)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned i = 0; i < ROLE_COUNT; i++) {
			struct role_state *r = &p->roles[i];

			if (r->pid != pid)
				continue;
			/* A role that says, before it ever served, that it cannot: nothing would
			 * mend that. */
			if (!p->announced && WIFEXITED(status) && WEXITSTATUS(status) >= EX__BASE) {
				p->exit = WEXITSTATUS(status);
				p->stopping = true;
			}
			if (!p->stopping)
				log_event(
					LOG_ALARM, "parent.role_died", F_STR("role", r->name),
					F_I64("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0),
					F_I64("exit", WIFEXITED(status) ? WEXITSTATUS(status) : 0));
			if (i == ROLE_CORE && !is_fault(status))
				poison_forgive(p->poison);
			role_down(p, r);
		}
	}
}

static void announce(struct parent *p)
{
	for (unsigned i = 0; i < ROLE_COUNT; i++)
		if (!p->roles[i].ready)
			return;
	if (p->announced)
		return;
	p->announced = true;
	log_event(LOG_NOTICE, "parent.ready", F_U64("listeners", p->n_listeners));
	if (p->options->ready_fd >= 0)
		(void)!write(p->options->ready_fd, "1", 1);
}

/* A new configuration replaces the old one only when everything about it is right; INFO says what
 * is not. */
static int reload(struct parent *p, struct err_info *info)
{
	struct parent fresh = { .options = p->options, .admin_listener = -1, .lock = -1 };
	int e;

	buf_init(&fresh.conf_text, CONF_MAX_TEXT);
	if ((e = conf_load(p->options->conf_path, &fresh.conf, &fresh.conf_text, info)) < 0 ||
	    (e = parent_read_files(&fresh, info)) < 0) {
		log_event(LOG_ERROR, "parent.reload_refused", F_STR("why", info->text));
		parent_files_done(&fresh);
		return e;
	}
	for (size_t i = 0; i < ARRAY_LEN(p->certs); i++) {
		buf_done(&p->certs[i].chain);
		buf_done(&p->certs[i].key);
		p->certs[i] = fresh.certs[i];
	}
	buf_done(&p->conf_text);
	buf_done(&p->ca);
	buf_done(&p->anchor);
	buf_done(&p->client_ca);
	parent_wipe(&p->passwords);
	conf_unref(p->conf);
	p->conf = fresh.conf;
	p->conf_text = fresh.conf_text;
	p->ca = fresh.ca;
	p->anchor = fresh.anchor;
	p->client_ca = fresh.client_ca;
	p->passwords = fresh.passwords;
	p->n_certs = fresh.n_certs;
	p->generation++;
	log_setup("parent", (enum log_level)p->conf->log_level,
		  (enum log_format)p->conf->log_format, 2);
	/* keys first: front must not use a certificate whose key is not there yet. */
	for (unsigned i = 0; i < ROLE_COUNT; i++)
		parent_send_config(p, &p->roles[i]);
	log_event(LOG_NOTICE, "parent.reloaded", F_U64("generation", p->generation));
	return 0;
}

/* One message of a role; false when its channel is closed. */
static bool hear(struct parent *p, struct role_state *r)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	struct err_info info = { 0 };
	uint16_t type;
	uint64_t id;

	if (channel_recv_fd(r->control, USEC_SEC, &type, &id, &b, NULL) < 0)
		return false;
	switch (type) {
	case CONTROL_READY:
		r->ready = true;
		announce(p);
		break;
	case CONTROL_RELOAD: /* whoever asked is told what came of it */
		(void)reload(p, &info);
		(void)channel_send_fd(r->control, CONTROL_RELOADED, id, span_str(info.text), -1);
		break;
	case CONTROL_STOP:
		p->stopping = true;
		break;
	}
	return true;
}

static void start_due(struct parent *p)
{
	struct err_info info;

	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		struct role_state *r = &p->roles[i];

		if (r->control >= 0 || !r->retry_at || r->retry_at > clock_mono())
			continue;
		if (parent_start_role(p, (enum role_kind)i, &info) < 0) {
			log_event(LOG_ERROR, "parent.start_failed", F_STR("role", r->name),
				  F_STR("why", info.text));
			role_down(p, r);
		}
	}
}

/* The end of main() takes the libraries down: no thread may be inside them still. */
static void join_role(struct role_state *r)
{
	struct timespec until;

	if (!r->threaded)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += JOIN_MAX_S;
	if (pthread_timedjoin_np(r->thread, NULL, &until) != 0)
		pthread_detach(r->thread);
	r->threaded = false;
}

/* Lets one role end what it does; then makes sure that it is gone. */
static void drain_role(struct parent *p, struct role_state *r)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(CHANNEL_MAX);
	usec end = clock_mono() + DRAIN_MAX;
	uint16_t type = 0;
	uint64_t id;
	int e = 0;

	if (r->control < 0)
		return;
	(void)channel_send_fd(r->control, CONTROL_DRAIN, 0, SPAN_NULL, -1);
	while (clock_mono() < end && e >= 0 && type != CONTROL_DRAINED) {
		buf_reset(&b);
		e = channel_recv_fd(r->control, MAX(end - clock_mono(), USEC_MSEC), &type, &id, &b,
				    NULL);
	}
	close(r->control);
	r->control = -1;
	if (!r->pid)
		return;
	for (int i = 0; i < 200; i++) {
		if (waitpid(r->pid, NULL, WNOHANG) != 0)
			return;
		usleep(10000);
	}
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
}

static void drain(struct parent *p)
{
	static const enum role_kind order[] = { ROLE_FRONT, ROLE_CORE, ROLE_OUT, ROLE_KEYS };

	/* Who could not start has said why, in one line. */
	if (p->announced)
		log_event(LOG_NOTICE, "parent.draining");
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		drain_role(p, &p->roles[order[i]]);
		join_role(&p->roles[order[i]]);
	}
	if (p->announced)
		log_event(LOG_NOTICE, "parent.stopped");
}

static void signals(struct parent *p, int fd)
{
	struct err_info info = { 0 }; /* a signal has nobody who could be told */
	struct signalfd_siginfo s;

	while (read(fd, &s, sizeof s) == sizeof s) {
		if (s.ssi_signo == SIGTERM || s.ssi_signo == SIGINT)
			p->stopping = true;
		else if (s.ssi_signo == SIGHUP)
			(void)reload(p, &info);
		else if (s.ssi_signo == SIGCHLD)
			reap(p);
	}
}

static void serve(struct parent *p, int sigfd)
{
	while (!p->stopping) {
		struct pollfd fds[ROLE_COUNT + 1] = { { .fd = sigfd, .events = POLLIN } };
		int timeout = -1;

		for (unsigned i = 0; i < ROLE_COUNT; i++) {
			struct role_state *r = &p->roles[i];

			fds[i + 1] = (struct pollfd){ .fd = r->control, .events = POLLIN };
			if (r->control < 0 && r->retry_at) {
				usec left = MAX(r->retry_at - clock_mono(), 0);

				if (timeout < 0 || left / 1000 < timeout)
					timeout = (int)(left / 1000) + 1;
			}
		}
		if (poll(fds, ROLE_COUNT + 1, timeout) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			signals(p, sigfd);
		for (unsigned i = 0; i < ROLE_COUNT; i++) {
			struct role_state *r = &p->roles[i];

			if (!fds[i + 1].revents || r->control != fds[i + 1].fd || hear(p, r))
				continue;
			/* Its process is ending: SIGCHLD tells why, and starts it again. */
			close(r->control);
			r->control = -1;
			if (p->options->single)
				p->stopping = true;
		}
		start_due(p);
	}
}

static int poison_page(struct parent *p, struct err_info *info)
{
	p->poison_fd = memfd_create("poison", MFD_CLOEXEC);
	if (p->poison_fd < 0 || ftruncate(p->poison_fd, POISON_PAGE) != 0)
		return err_set(info, err_from_errno(errno), "cannot make the poison page: %s",
			       strerror(errno));
	p->poison = mmap(NULL, POISON_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p->poison_fd, 0);
	if (p->poison == MAP_FAILED)
		return err_set(info, ERR_NOMEM, "cannot map the poison page");
	return 0;
}

/* Each connection is a descriptor in front, and one of core's while a large message arrives; an
 * outgoing one is a descriptor of out, and another one for a large message; the
 * usual limit of 1,024 is for programs that use select().  The roles inherit it. */
static void raise_fd_limit(const struct conf *conf)
{
	rlim_t wanted = MAX((rlim_t)conf->max_connections, 2 * (rlim_t)conf->relay_connections) +
			3 * (rlim_t)conf->store_handles + 1000;
	struct rlimit fds;

	if (getrlimit(RLIMIT_NOFILE, &fds) != 0 || fds.rlim_cur >= wanted)
		return;
	fds.rlim_cur = wanted;
	if (fds.rlim_max < wanted) {
		struct rlimit more = { wanted, wanted }; /* root may */

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
		fds.rlim_cur = fds.rlim_max;
		log_event(LOG_WARNING, "parent.few_descriptors", F_U64("have", fds.rlim_max),
			  F_U64("wanted", wanted));
	}
	(void)setrlimit(RLIMIT_NOFILE, &fds);
}

static int begin(struct parent *p, struct err_info *info)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int e;

	if ((e = conf_load(p->options->conf_path, &p->conf, &p->conf_text, info)) < 0 ||
	    (e = tls_init(info)) < 0 || (e = parent_prepare_data(p, info)) < 0 ||
	    (e = parent_read_files(p, info)) < 0 || (e = parent_listen(p, info)) < 0 ||
	    (e = poison_page(p, info)) < 0)
		return e;
	log_setup("parent", (enum log_level)p->conf->log_level,
		  (enum log_format)p->conf->log_format, 2);
	raise_fd_limit(p->conf);
	p->front_loops = p->conf->front_loops ? p->conf->front_loops : (unsigned)MAX(cores, 1);
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		p->roles[i] = (struct role_state){ .kind = (enum role_kind)i,
						   .name = role_name[i],
						   .control = -1 };
	}
	for (unsigned i = 0; i < ROLE_COUNT; i++) {
		e = parent_start_role(p, (enum role_kind)i, info);
		if (e < 0)
			return e;
	}
	return 0;
}

int role_exit_code(int e)
{
	switch (e) {
	case ERR_SYNTAX:
	case ERR_NOENT:
	case ERR_INVAL:
	case ERR_VERSION:
		return EX_CONFIG;
	case ERR_CORRUPT:
		return EX_DATAERR;
	case ERR_BUSY:
	case ERR_FULL:
	case ERR_AGAIN:
		return EX_TEMPFAIL;
	case ERR_PERM:
		return EX_NOPERM;
	default:
		return EX_OSERR;
	}
}

int role_parent(const struct parent_options *o)
{
	static struct parent p; /* one per process; too large for a stack */
	struct err_info info = { 0 };
	int sigfd = spawn_signals_open(), e;

	p = (struct parent){
		.options = o, .admin_listener = -1, .lock = -1, .poison_fd = -1, .generation = 1
	};
	buf_init(&p.conf_text, CONF_MAX_TEXT);
	e = begin(&p, &info);
	if (e < 0) {
		fprintf(stderr, "postrider: %s\n", info.text);
	} else {
		serve(&p, sigfd);
	}
	p.stopping = true;
	drain(&p);
	parent_files_done(&p);
	close(sigfd);
	return e < 0 ? role_exit_code(e) : p.exit;
}
