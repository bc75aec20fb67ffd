/* The keys of rewritten reverse-paths. */
#include "directory/directory_int.h"

#include "base/id.h"
#include "tls/hash.h"

#define KEY_SIZE 32

/* One blob: the newest key, and the one before it. */
static int write_keys(struct db_tx *tx, void *arg)
{
	return db_run(tx, "INSERT OR REPLACE INTO secret(what, value) VALUES('srs', ?)", "b",
		      *(const span *)arg);
}

static int store_keys(struct directory *d, uint8_t keys[DIRECTORY_SRS_KEYS][KEY_SIZE], unsigned n)
{
	span blob = span_of(keys, (size_t)n * KEY_SIZE);
	int r = db_write(d->db, write_keys, &blob);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->lock);
	memcpy(d->srs, keys, blob.n);
	d->n_srs = n;
	pthread_rwlock_unlock(&d->lock);
	return 0;
}

static int load_keys(struct directory *d)
{
	_cleanup_(db_read_endp) struct db_tx *tx = NULL;
	int r = db_read_begin(d->db, &tx);
	if (r < 0)
		return r;
	struct db_stmt *s = db_sql(tx, "SELECT value FROM secret WHERE what = 'srs'");
	r = db_step(s);
	if (r <= 0)
		return r;
	span blob = db_col_span(s, 0);
	if (blob.n && blob.n % KEY_SIZE == 0 && blob.n <= sizeof(d->srs)) {
		memcpy(d->srs, blob.p, blob.n);
		d->n_srs = (unsigned)(blob.n / KEY_SIZE);
	}
	db_reset(s);
	return d->n_srs ? 0 : ERR_CORRUPT;
}

int directory_srs_setup(struct directory *d, struct err_info *info)
{
	uint8_t fresh[DIRECTORY_SRS_KEYS][KEY_SIZE];
	int r = load_keys(d);
	if (r == 0 && !d->n_srs) {
		random_bytes(fresh[0], KEY_SIZE);
		r = store_keys(d, fresh, 1);
	}
	return r < 0 ? err_set(info, r, "the keys of reverse-paths cannot be read: %s", err_text(r))
		     : 0;
}

unsigned directory_srs_keys(struct directory *d, uint8_t ret[DIRECTORY_SRS_KEYS][32])
{
	pthread_rwlock_rdlock(&d->lock);
	memcpy(ret, d->srs, sizeof(d->srs));
	unsigned n = d->n_srs;
	pthread_rwlock_unlock(&d->lock);
	return n;
}

int directory_srs_rotate(struct directory *d, struct err_info *info)
{
	uint8_t keys[DIRECTORY_SRS_KEYS][KEY_SIZE];
	CHANGE_SCOPE(d);
	random_bytes(keys[0], KEY_SIZE);
	memcpy(keys[1], d->srs[0], KEY_SIZE);
	int r = store_keys(d, keys, DIRECTORY_SRS_KEYS);
	secret_wipe(keys, sizeof(keys));
	return r < 0 ? err_set(info, r, "the new key could not be saved: %s", err_text(r)) : 0;
}
