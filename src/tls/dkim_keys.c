#include "tls/dkim_keys.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/map.h"
#include "sys/channel.h"
#include "sys/file.h"
#include "tls/hash.h"

#define RSA_BITS     2048 /* RFC 8301 3.2; longer ones do not fit into what many zones hold */
#define PEM_MAX	     16384
#define NAME_MAX_LEN 240 /* of a file */
#define ANSWER_MAX   4096

struct dkim_keys {
	pthread_mutex_t lock;
	const char *dir;
	struct map *keys; /* file name -> sign_key */
};

/* ------------------------------------------------------------------ core */

void dkim_keys_put(struct buf *b, span domain, span selector)
{
	buf_put_blob(b, domain);
	buf_put_blob(b, selector);
}

int dkim_keys_answer(span payload, span *ret)
{
	struct cursor c = cursor_of(payload);
	uint8_t e = cursor_u8(&c);

	if (c.bad)
		return ERR_PROTO;
	if (e)
		return -(int)e;
	*ret = cursor_rest(&c);
	return 0;
}

/* ------------------------------------------------------------------ names and files */

/* Labels of letters, digits, '-' and '_', in lower case: nothing that a path could be led astray by. */
static bool is_plain_name(span s)
{
	size_t label = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (c == '.' && label == 0)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > 63 || !(c == '.' || c == '-' || c == '_' || (c >= 'a' && c <= 'z') ||
				    (c >= '0' && c <= '9')))
			return false;
	}
	return label > 0;
}

static bool put_name(struct buf *b, span domain, span selector)
{
	if (!is_plain_name(domain) || !is_plain_name(selector))
		return false;
	buf_put_span(b, selector);
	buf_put_str(b, "._domainkey.");
	buf_put_span(b, domain);
	return buf_put_str(b, ".pem") >= 0;
}

/* The caller frees. */
static char *path_of(const struct dkim_keys *k, span name)
{
	_cleanup_(buf_donep) struct buf b = BUF_INIT(8192);

	buf_put_str(&b, k->dir);
	buf_put_char(&b, '/');
	buf_put_span(&b, name);
	return xstrdup(buf_cstr(&b));
}

static int load(struct dkim_keys *k, span name)
{
	_cleanup_(freep) char *path = path_of(k, name);
	_cleanup_(buf_donep) struct buf pem = BUF_INIT(PEM_MAX);
	struct sign_key *key;
	int e = file_read(path, PEM_MAX, &pem);

	if (e == 0)
		e = sign_key_from_pem(buf_span(&pem), &key);
	secret_wipe(pem.p, pem.n);
	if (e == 0)
		sign_key_free(map_put(k->keys, name, key));
	return e;
}

static bool is_key_file(span name)
{
	static const char end[] = ".pem";

	return name.n > sizeof(end) - 1 &&
	       span_eq_str(span_from(name, name.n - (sizeof(end) - 1)), end);
}

int dkim_keys_open(const char *dir, struct dkim_keys **ret, struct err_info *info)
{
	DIR *d = opendir(dir);
	const struct dirent *f;
	struct dkim_keys *k;

	if (!d)
		return err_set(info, ERR_IO, "the folder of keys cannot be read: %s", dir);
	k = xcalloc(1, sizeof(*k));
	k->dir = dir;
	k->keys = map_new();
	pthread_mutex_init(&k->lock, NULL);
	while ((f = readdir(d))) {
		span name = span_str(f->d_name);
		int e = is_key_file(name) ? load(k, name) : 0;

		if (e < 0)
			log_event(LOG_ERROR, "keys.unreadable", F_SPAN("file", name), F_ERR(e));
	}
	closedir(d);
	*ret = k;
	return 0;
}

void dkim_keys_close(struct dkim_keys *k)
{
	size_t it = 0;
	void *key;

	if (!k)
		return;
	while (map_next(k->keys, &it, NULL, &key))
		sign_key_free(key);
	map_free(k->keys);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* ------------------------------------------------------------------ what may be signed */

struct signature_tags {
	span a, c, d, s, b;
	bool twice;
};

static void take_tag(struct signature_tags *t, span name, span value)
{
	span *to = span_eq_str(name, "a")   ? &t->a
		   : span_eq_str(name, "c") ? &t->c
		   : span_eq_str(name, "d") ? &t->d
		   : span_eq_str(name, "s") ? &t->s
		   : span_eq_str(name, "b") ? &t->b
					    : NULL;

	if (!to)
		return;
	t->twice |= to->p != NULL;
	*to = value;
}

/* The last line of TEXT, which the relaxed form leaves unfolded and without CRLF, is the signature's field; every
 * line above it ends with CRLF. */
static bool is_to_be_signed(span text, enum sign_type type, span domain, span selector)
{
	const span name = SPAN("dkim-signature:");
	struct signature_tags t = { 0 };
	size_t at = text.n;
	span rest, tag = SPAN_NULL, value;

	while (at && text.p[at - 1] != '\n')
		at--;
	if (at < 2 || text.p[at - 2] != '\r')
		return false; /* not one field is signed */
	rest = span_from(text, at);
	if (!span_starts(rest, name))
		return false;
	for (rest = span_from(rest, name.n); rest.p;) {
		value = span_cut(&rest, ';');
		tag = span_trim(span_cut(&value, '='));
		value = span_trim(value);
		take_tag(&t, tag, value);
	}
	/* b= comes last and is empty, so that the bytes are a whole field and yet without a signature. */
	return !t.twice && span_eq_str(tag, "b") && t.b.p && !t.b.n &&
	       span_eq_str(t.a, type == SIGN_RSA ? "rsa-sha256" : "ed25519-sha256") &&
	       span_starts(t.c, SPAN("relaxed/")) && span_eq(t.d, domain) && span_eq(t.s, selector);
}

/* ------------------------------------------------------------------ questions */

static int make(struct dkim_keys *k, span name, uint8_t type, struct buf *b)
{
	_cleanup_(buf_donep) struct buf pem = BUF_INIT(PEM_MAX);
	_cleanup_(freep) char *path = path_of(k, name);
	struct sign_key *key = NULL;
	int e;

	if (map_get(k->keys, name))
		return ERR_EXIST;
	e = type == SIGN_RSA	   ? sign_key_new_rsa(RSA_BITS, &key)
	    : type == SIGN_ED25519 ? sign_key_new_ed25519(&key)
				   : ERR_INVAL;
	if (e == 0)
		e = sign_key_pem(key, &pem);
	if (e == 0)
		e = file_replace(path, buf_span(&pem), 0600);
	secret_wipe(pem.p, pem.n);
	if (e == 0)
		e = sign_key_public(key, b);
	if (e < 0)
		sign_key_free(key);
	else
		map_put(k->keys, name, key);
	return e;
}

static int drop(struct dkim_keys *k, span name)
{
	_cleanup_(freep) char *path = path_of(k, name);
	int e = file_remove(path);

	if (e == 0)
		e = file_sync_dir(k->dir);
	if (e == 0)
		sign_key_free(map_del(k->keys, name));
	return e;
}

static int tell(const struct sign_key *key, struct buf *b)
{
	if (!key)
		return ERR_NOENT;
	buf_put_char(b, (char)sign_key_type(key));
	return sign_key_public(key, b);
}

static int sign(const struct sign_key *key, span domain, span selector, span text, struct buf *b)
{
	uint8_t digest[32];

	if (!key)
		return ERR_NOENT;
	if (text.n > KEYS_DKIM_TEXT_MAX ||
	    !is_to_be_signed(text, sign_key_type(key), domain, selector))
		return ERR_PERM;
	sha256(text, digest);
	return sign_digest(key, digest, b);
}

/* Under the lock: there is one asker, and what it costs is the signature. */
static int judge(struct dkim_keys *k, uint16_t type, span question, struct buf *b)
{
	_cleanup_(buf_donep) struct buf name = BUF_INIT(NAME_MAX_LEN);
	struct cursor c = cursor_of(question);
	span domain = cursor_blob(&c), selector = cursor_blob(&c);

	if (c.bad || !put_name(&name, domain, selector))
		return ERR_INVAL;
	switch (type) {
	case KEYS_DKIM_NEW:
		return make(k, buf_span(&name), cursor_u8(&c), b);
	case KEYS_DKIM_LIST:
		return tell(map_get(k->keys, buf_span(&name)), b);
	case KEYS_DKIM_DROP:
		return drop(k, buf_span(&name));
	case KEYS_DKIM_SIGN:
		return sign(map_get(k->keys, buf_span(&name)), domain, selector, cursor_rest(&c),
			    b);
	default:
		return ERR_UNSUPPORTED;
	}
}

void dkim_keys_judge(struct dkim_keys *k, uint16_t type, span question, struct buf *b)
{
	size_t at = b->n;
	int e;

	buf_put_char(b, 0);
	pthread_mutex_lock(&k->lock);
	e = judge(k, type, question, b);
	pthread_mutex_unlock(&k->lock);
	if (e < 0) {
		buf_truncate(b, at);
		buf_put_char(b, (char)-e);
	}
}

struct service {
	struct dkim_keys *keys;
	struct loop *loop;
};

static void on_question(void *arg, struct channel *c, struct channel_msg *m)
{
	struct service *s = arg;
	_cleanup_(buf_donep) struct buf answer = BUF_INIT(ANSWER_MAX);

	dkim_keys_judge(s->keys, m->type, m->payload, &answer);
	(void)channel_send(c, KEYS_DKIM_ANSWER, m->id, buf_span(&answer), -1);
}

static void on_closed(void *arg, struct channel *c)
{
	struct service *s = arg;

	loop_stop(s->loop);
}

/* With a loop, since core puts several questions into one datagram. */
void dkim_keys_serve(struct dkim_keys *k, int sock)
{
	int own = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	struct service s = { .keys = k };
	struct channel *c;

	if (own < 0)
		return;
	s.loop = loop_new();
	c = channel_open(s.loop, own, on_question, on_closed, &s);
	loop_run(s.loop);
	channel_close(c);
	loop_free(s.loop);
}
