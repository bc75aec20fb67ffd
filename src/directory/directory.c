#include "directory/directory_int.h"

#include <stdlib.h>

static void free_tables(struct directory *d)
{
	void *v;
	for (size_t it = 0; map_next(d->names, &it, NULL, &v);)
		directory_name_free(v);
	for (size_t it = 0; map_next(d->domains, &it, NULL, &v);)
		directory_dom_free(v);
	map_free(d->names);
	map_free(d->domains);
	map_free(d->ids);
}

int directory_open(const char *path, struct directory **ret, struct err_info *info)
{
	struct directory *d = xcalloc(1, sizeof(*d));
	pthread_mutex_init(&d->change, NULL);
	pthread_rwlock_init(&d->lock, NULL);
	d->scram = 1u << HASH_SHA256;
	d->domains = map_new();
	d->names = map_new();
	d->ids = map_new();
	int r = db_open(path, &directory_schema, DB_CREATE, &d->db, info);
	if (r >= 0)
		r = directory_load(d, info);
	if (r >= 0)
		r = directory_dkim_load(d, info);
	if (r >= 0)
		r = credential_setup(d, info);
	if (r >= 0)
		r = directory_srs_setup(d, info);
	if (r < 0) {
		directory_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

void directory_close(struct directory *d)
{
	if (!d)
		return;
	if (d->app)
		(void)directory_save_uses(d);
	db_close(d->db);
	credential_done(d);
	free_tables(d);
	pthread_rwlock_destroy(&d->lock);
	pthread_mutex_destroy(&d->change);
	free(d);
}
