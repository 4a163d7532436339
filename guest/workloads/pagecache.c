/*
 * pagecache: reads, and with --write also writes, a file or block device through the page cache,
 * chunk by chunk in a seeded order, then asks the kernel to drop part of what is cached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/disk.h"
#include "lib/random.h"
#include "lib/workload.h"

#define OPS_MAX	       10000000
#define SCRATCH_SERIAL "mmscope-scratch"

static const char usage[] = "--bytes SIZE|PERCENT% --ops N [--file PATH] [--write] [--chunk SIZE] "
			    "[--drop PERCENT]";

struct plan {
	const char *size_text;
	/* NULL: the scratch disk, found by its serial. */
	const char *path;
	uint64_t ops;
	uint64_t chunk_bytes;
	unsigned int drop_percent;
	bool write;
	uint64_t chunks;
	int fd;
	char *buffer;
	unsigned long long reads;
	unsigned long long writes;
	unsigned long long dropped;
};

static void prepare(const struct workload *self, struct plan *plan)
{
	static char device[64];
	uint64_t bytes = workload_size(self, "--bytes", plan->size_text);
	off_t size;

	if (!plan->path) {
		if (!disk_find(SCRATCH_SERIAL, 0, device, sizeof(device)))
			workload_fail(self, "no disk with the serial %s: give --file",
				      SCRATCH_SERIAL);
		plan->path = device;
	}
	plan->fd = open(plan->path, (plan->write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (plan->fd == -1)
		workload_fail(self, "--file %s", plan->path);
	size = lseek(plan->fd, 0, SEEK_END);
	if (size == -1)
		workload_fail(self, "--file %s", plan->path);
	if ((uint64_t)size < bytes)
		workload_usage(self, "--bytes %s: %s has only %lld bytes", plan->size_text,
			       plan->path, (long long)size);
	plan->chunks = bytes / plan->chunk_bytes;
	if (plan->chunks == 0)
		workload_usage(self, "--bytes %s: less than a chunk of %llu bytes", plan->size_text,
			       (unsigned long long)plan->chunk_bytes);
	plan->buffer = malloc(plan->chunk_bytes);
	if (!plan->buffer)
		workload_fail(self, "--chunk %llu", (unsigned long long)plan->chunk_bytes);
	memset(plan->buffer, (int)(self->seed & 0xff), plan->chunk_bytes);
}

static void move_chunk(const struct workload *self, struct plan *plan, uint64_t chunk, bool write)
{
	off_t offset = (off_t)(chunk * plan->chunk_bytes);
	uint64_t done = 0;

	while (done < plan->chunk_bytes) {
		size_t left = plan->chunk_bytes - done;
		off_t at = offset + (off_t)done;
		ssize_t moved = write ? pwrite(plan->fd, plan->buffer + done, left, at)
				      : pread(plan->fd, plan->buffer + done, left, at);

		if (moved == -1 && errno == EINTR)
			continue;
		if (moved == 0)
			errno = ENODATA;
		if (moved <= 0)
			workload_fail(self, "%s at byte %lld of %s", write ? "write" : "read",
				      (long long)at, plan->path);
		done += (uint64_t)moved;
	}
	if (write)
		plan->writes++;
	else
		plan->reads++;
}

static void work(const struct workload *self, struct plan *plan, struct random *random)
{
	for (uint64_t op = 0; op < plan->ops; op++) {
		uint64_t chunk = random_below(random, plan->chunks);
		bool write = plan->write && random_below(random, 2) == 1;

		move_chunk(self, plan, chunk, write);
	}
}

static void drop(const struct workload *self, struct plan *plan, struct random *random)
{
	/* What is dirty cannot be dropped. */
	if (plan->write && fdatasync(plan->fd))
		workload_fail(self, "writing back %s", plan->path);
	for (uint64_t chunk = 0; chunk < plan->chunks; chunk++) {
		if (random_below(random, 100) >= plan->drop_percent)
			continue;
		errno = posix_fadvise(plan->fd, (off_t)(chunk * plan->chunk_bytes),
				      (off_t)plan->chunk_bytes, POSIX_FADV_DONTNEED);
		if (errno)
			workload_fail(self, "dropping from the cache of %s", plan->path);
		plan->dropped++;
	}
}

static void run(struct workload *self, struct plan *plan)
{
	struct random random = {.state = self->seed};

	workload_mark(self, "before");
	work(self, plan, &random);
	workload_mark(self, "%s/%llu", plan->write ? "write" : "read",
		      (unsigned long long)plan->ops);
	drop(self, plan, &random);
	workload_mark(self, "drop/%llu", plan->dropped);
	/* The last close of a block device drops all that is cached of it. */
	close(plan->fd);
	workload_mark(self, "close");
}

int main(int argc, char **argv)
{
	enum { OPTION_FILE = 1, OPTION_BYTES, OPTION_OPS, OPTION_WRITE, OPTION_CHUNK, OPTION_DROP };
	static const struct option options[] = {
		{"file", required_argument, NULL, OPTION_FILE},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"ops", required_argument, NULL, OPTION_OPS},
		{"write", no_argument, NULL, OPTION_WRITE},
		{"chunk", required_argument, NULL, OPTION_CHUNK},
		{"drop", required_argument, NULL, OPTION_DROP},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.chunk_bytes = 64 << 10, .drop_percent = 50};
	struct workload self;
	int option;

	workload_init(&self, "pagecache", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_FILE:
			plan.path = optarg;
			break;
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_OPS:
			plan.ops = workload_number(&self, "--ops", optarg, 1, OPS_MAX);
			break;
		case OPTION_WRITE:
			plan.write = true;
			break;
		case OPTION_CHUNK:
			plan.chunk_bytes = workload_size(&self, "--chunk", optarg);
			break;
		case OPTION_DROP:
			plan.drop_percent =
				(unsigned int)workload_number(&self, "--drop", optarg, 0, 100);
			break;
		}
	}
	if (!plan.size_text || plan.ops == 0)
		workload_usage(&self, "--bytes and --ops are needed");
	workload_begin(&self);
	prepare(&self, &plan);
	run(&self, &plan);
	workload_report(&self);
	printf(", \"file\": \"%s\", \"chunk_bytes\": %llu, \"reads\": %llu, \"writes\": %llu, "
	       "\"dropped_chunks\": %llu}\n",
	       plan.path, (unsigned long long)plan.chunk_bytes, plan.reads, plan.writes,
	       plan.dropped);
	return 0;
}
