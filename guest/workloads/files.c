/*
 * files: writes files of seeded sizes, in rounds: all are written, part is cut short and written
 * again, all are unlinked in another seeded order. On tmpfs, where files are nothing but page
 * cache, each page comes from the page allocator and goes back to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define FILES_MAX   1000000
#define ROUNDS_MAX  1000000
#define CHUNK_BYTES 65536

static const char usage[] = "--files N --bytes SIZE|PERCENT% [--rounds N] [--dir DIRECTORY]";

struct plan {
	const char *size_text;
	uint32_t files;
	uint64_t rounds;
	/* Of all files together, about. */
	uint64_t bytes;
	/* A directory of our own below --dir, and where we are while we run. */
	char directory[256];
	uint32_t *order;
	unsigned long long written_bytes;
	unsigned long long cut;
};

static char chunk[CHUNK_BYTES];

/* Made last, removed whatever happens, with what is left in it. */
static char remove_at_exit[256];
static uint32_t remove_files;

static void file_name(char *name, size_t size, uint32_t index)
{
	format_text(name, size, "file-%07u", index);
}

static void remove_directory(void)
{
	char name[64];

	if (!*remove_at_exit)
		return;
	for (uint32_t i = 0; i < remove_files; i++) {
		file_name(name, sizeof(name), i);
		unlink(name);
	}
	if (chdir("/") == 0)
		rmdir(remove_at_exit);
}

/* From one byte to twice the mean. */
static uint64_t file_bytes(const struct plan *plan, struct random *random)
{
	return 1 + random_below(random, 2 * plan->bytes / plan->files);
}

static void write_file(const struct workload *self, struct plan *plan, uint32_t index, int flags,
		       uint64_t bytes)
{
	char name[64];
	int fd;

	file_name(name, sizeof(name), index);
	fd = open(name, O_WRONLY | O_CLOEXEC | flags, 0600);
	if (fd == -1)
		workload_fail(self, "%s", name);
	for (uint64_t done = 0; done < bytes;) {
		size_t left = bytes - done < CHUNK_BYTES ? bytes - done : CHUNK_BYTES;

		if (write_all(fd, chunk, left, 0))
			workload_fail(self, "writing byte %llu of %s", (unsigned long long)done,
				      name);
		done += left;
	}
	close(fd);
	plan->written_bytes += bytes;
}

static void run_round(struct workload *self, struct plan *plan, struct random *random)
{
	char name[64];

	for (uint32_t i = 0; i < plan->files; i++)
		write_file(self, plan, i, O_CREAT | O_EXCL, file_bytes(plan, random));
	workload_mark(self, "write/%u", plan->files);
	for (uint32_t i = 0; i < plan->files; i++) {
		if (random_below(random, 4) != 0)
			continue;
		file_name(name, sizeof(name), i);
		if (truncate(name, 0))
			workload_fail(self, "cutting %s", name);
		plan->cut++;
		write_file(self, plan, i, 0, file_bytes(plan, random));
	}
	workload_mark(self, "cut");
	for (uint32_t i = 0; i < plan->files; i++)
		plan->order[i] = i;
	random_shuffle(random, plan->order, plan->files);
	for (uint32_t i = 0; i < plan->files; i++) {
		file_name(name, sizeof(name), plan->order[i]);
		if (unlink(name))
			workload_fail(self, "removing %s", name);
	}
	workload_mark(self, "unlink/%u", plan->files);
}

static void prepare(const struct workload *self, struct plan *plan, const char *parent)
{
	plan->bytes = workload_size(self, "--bytes", plan->size_text);
	if (plan->bytes < plan->files)
		workload_usage(self, "--bytes %s: less than a byte a file", plan->size_text);
	plan->order = calloc(plan->files, sizeof(*plan->order));
	if (!plan->order)
		workload_fail(self, "--files %u", plan->files);
	if (!format_text(plan->directory, sizeof(plan->directory), "%s/files.XXXXXX", parent))
		workload_usage(self, "--dir %s: too long", parent);
	if (!mkdtemp(plan->directory) || chdir(plan->directory))
		workload_fail(self, "--dir %s", parent);
	memcpy(remove_at_exit, plan->directory, sizeof(remove_at_exit));
	remove_files = plan->files;
	atexit(remove_directory);
	memset(chunk, 'm', sizeof(chunk));
}

int main(int argc, char **argv)
{
	enum { OPTION_FILES = 1, OPTION_BYTES, OPTION_ROUNDS, OPTION_DIR };
	static const struct option options[] = {
		{"files", required_argument, NULL, OPTION_FILES},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		{"dir", required_argument, NULL, OPTION_DIR},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.rounds = 1};
	const char *parent = "/tmp";
	struct random random;
	struct workload self;
	int option;

	workload_init(&self, "files", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_FILES:
			plan.files =
				(uint32_t)workload_number(&self, "--files", optarg, 1, FILES_MAX);
			break;
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		case OPTION_DIR:
			parent = optarg;
			break;
		}
	}
	if (plan.files == 0 || !plan.size_text)
		workload_usage(&self, "--files and --bytes are needed");
	workload_begin(&self);
	prepare(&self, &plan, parent);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++)
		run_round(&self, &plan, &random);
	workload_report(&self);
	printf(", \"files\": %u, \"rounds\": %llu, \"written_bytes\": %llu, \"cut\": %llu}\n",
	       plan.files, (unsigned long long)plan.rounds, plan.written_bytes, plan.cut);
	return 0;
}
