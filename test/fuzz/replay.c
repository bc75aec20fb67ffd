/* Runs a fuzz target over the files named on the command line (or all files of a folder): the
 * corpus is an ordinary test wherever libFuzzer is absent. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	uint8_t *p;

	if (!f || fstat(fileno(f), &st) < 0) {
		perror(path);
		return -1;
	}
	p = malloc((size_t)st.st_size + 1);
	if (!p || fread(p, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		perror(path);
		fclose(f);
		free(p);
		return -1;
	}
	fclose(f);
	/* An exact-size copy lets ASan see a read one past the end. */
	uint8_t *exact = malloc(st.st_size ? (size_t)st.st_size : 1);
	for (off_t i = 0; i < st.st_size; i++)
		exact[i] = p[i];
	LLVMFuzzerTestOneInput(exact, (size_t)st.st_size);
	free(exact);
	free(p);
	return 0;
}

int main(int argc, char **argv)
{
	int runs = 0;

	for (int i = 1; i < argc; i++) {
		struct dirent *e;
		DIR *d = opendir(argv[i]);

		if (!d) {
			if (run_file(argv[i]) < 0)
				return 1;
			runs++;
			continue;
		}
		while ((e = readdir(d))) {
			char path[4096];

			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
			if (run_file(path) < 0) {
				closedir(d);
				return 1;
			}
			runs++;
		}
		closedir(d);
	}
	printf("%d inputs replayed\n", runs);
	return runs ? 0 : 1;
}
