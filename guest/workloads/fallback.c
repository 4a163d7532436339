/*
 * fallback: makes requests of one migratetype find only blocks of another, in both directions.
 *
 * Anonymous memory fills what is free and is given back in short runs, so that free blocks are
 * small and lie in movable pageblocks. Then the rings of packet sockets (unmovable, in blocks of
 * rising order) and empty files (reclaimable slabs) ask for more than their own pageblocks have.
 * At last, while these are held, anonymous memory fills what is left, theirs included.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define ROUNDS_MAX 1000000
#define FILES_MAX  10000000
#define ORDER_MAX  10
#define RUN_MAX	   64

static const char usage[] = "--bytes SIZE|PERCENT% --rings SIZE|PERCENT% [--files N] "
			    "[--order-max N] [--fill SIZE|PERCENT%] [--rounds N]";

struct plan {
	const char *size_text;
	const char *rings_text;
	const char *fill_text;
	uint64_t pages;
	/* Of all rings together. */
	uint64_t ring_pages;
	uint64_t files;
	unsigned int order_max;
	uint64_t rounds;
	size_t page_bytes;
	char directory[64];
	int rings[ORDER_MAX + 1];
	unsigned long long ring_blocks;
	unsigned long long refused;
};

/* Made last, removed whatever happens. */
static char remove_at_exit[64];

static void remove_directory(void)
{
	if (*remove_at_exit && chdir("/") == 0)
		rmdir(remove_at_exit);
}

static char *touch(const struct workload *self, const struct plan *plan, const char *text,
		   uint64_t pages)
{
	size_t bytes = pages * plan->page_bytes;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		workload_fail(self, "--bytes %s", text);
	if (madvise(memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		workload_fail(self, "--bytes %s: no huge pages", text);
	for (uint64_t page = 0; page < pages; page++)
		*(volatile char *)(memory + page * plan->page_bytes) = 1;
	return memory;
}

/* Keeps a page after each run of a seeded length. */
static void give_back_runs(const struct workload *self, const struct plan *plan,
			   struct random *random, char *memory)
{
	for (uint64_t page = 0; page < plan->pages;) {
		uint64_t run = 1 + random_below(random, RUN_MAX);

		if (run > plan->pages - page)
			run = plan->pages - page;
		if (madvise(memory + page * plan->page_bytes, run * plan->page_bytes,
			    MADV_DONTNEED))
			workload_fail(self, "giving back %llu pages", (unsigned long long)run);
		page += run + 1;
	}
}

/* One ring an order, each with its share of the pages; what the kernel refuses is counted. */
static void take_rings(const struct workload *self, struct plan *plan)
{
	uint64_t share = plan->ring_pages / (plan->order_max + 1);

	for (unsigned int order = 0; order <= plan->order_max; order++) {
		unsigned int block_bytes = (unsigned int)plan->page_bytes << order;
		unsigned int blocks = (unsigned int)(share >> order);
		struct tpacket_req ring = {.tp_block_size = block_bytes,
					   .tp_block_nr = blocks,
					   .tp_frame_size = block_bytes,
					   .tp_frame_nr = blocks};

		/* Protocol 0: it receives nothing. */
		plan->rings[order] = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
		if (plan->rings[order] == -1)
			workload_fail(self, "packet socket");
		if (blocks == 0)
			continue;
		if (setsockopt(plan->rings[order], SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
			plan->refused++;
		else
			plan->ring_blocks += blocks;
	}
}

static void drop_rings(struct plan *plan)
{
	for (unsigned int order = 0; order <= plan->order_max; order++)
		close(plan->rings[order]);
}

static void make_files(const struct workload *self, const struct plan *plan)
{
	char name[64];

	for (uint64_t i = 0; i < plan->files; i++) {
		format_text(name, sizeof(name), "a-file-with-a-name-of-its-own-%08llu",
			    (unsigned long long)i);
		if (mknod(name, S_IFREG | 0600, 0))
			workload_fail(self, "file %llu", (unsigned long long)i);
	}
}

static void remove_files(const struct workload *self, const struct plan *plan)
{
	char name[64];

	for (uint64_t i = 0; i < plan->files; i++) {
		format_text(name, sizeof(name), "a-file-with-a-name-of-its-own-%08llu",
			    (unsigned long long)i);
		if (unlink(name))
			workload_fail(self, "removing file %llu", (unsigned long long)i);
	}
}

static void run_round(struct workload *self, struct plan *plan, struct random *random)
{
	char *memory = touch(self, plan, plan->size_text, plan->pages);
	uint64_t filled;
	char *fill;

	workload_mark(self, "touch/%llu", (unsigned long long)plan->pages);
	give_back_runs(self, plan, random, memory);
	workload_mark(self, "runs");
	take_rings(self, plan);
	workload_mark(self, "rings/%llu", plan->ring_blocks);
	make_files(self, plan);
	workload_mark(self, "files/%llu", (unsigned long long)plan->files);
	/* A percentage is of what the rings and the files did not take. */
	filled = workload_size(self, "--fill", plan->fill_text) / plan->page_bytes;
	fill = touch(self, plan, plan->fill_text, filled);
	workload_mark(self, "fill/%llu", (unsigned long long)filled);
	drop_rings(plan);
	remove_files(self, plan);
	workload_mark(self, "drop");
	munmap(fill, filled * plan->page_bytes);
	munmap(memory, plan->pages * plan->page_bytes);
	workload_mark(self, "release");
}

static void prepare(const struct workload *self, struct plan *plan)
{
	plan->pages = workload_memory(self, "--bytes", plan->size_text) / plan->page_bytes;
	plan->ring_pages = workload_size(self, "--rings", plan->rings_text) / plan->page_bytes;
	if (plan->pages == 0 || plan->ring_pages == 0)
		workload_usage(self, "--bytes %s --rings %s: less than a page", plan->size_text,
			       plan->rings_text);
	strcpy(plan->directory, "/tmp/fallback.XXXXXX");
	if (!mkdtemp(plan->directory) || chdir(plan->directory))
		workload_fail(self, "%s", plan->directory);
	memcpy(remove_at_exit, plan->directory, sizeof(remove_at_exit));
	atexit(remove_directory);
}

int main(int argc, char **argv)
{
	enum {
		OPTION_BYTES = 1,
		OPTION_RINGS,
		OPTION_FILES,
		OPTION_ORDER_MAX,
		OPTION_FILL,
		OPTION_ROUNDS
	};
	static const struct option options[] = {
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"rings", required_argument, NULL, OPTION_RINGS},
		{"files", required_argument, NULL, OPTION_FILES},
		{"order-max", required_argument, NULL, OPTION_ORDER_MAX},
		{"fill", required_argument, NULL, OPTION_FILL},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.rounds = 1, .order_max = 4, .fill_text = "75%"};
	struct random random;
	struct workload self;
	int option;

	plan.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	workload_init(&self, "fallback", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_RINGS:
			plan.rings_text = optarg;
			break;
		case OPTION_FILES:
			plan.files = workload_number(&self, "--files", optarg, 0, FILES_MAX);
			break;
		case OPTION_ORDER_MAX:
			plan.order_max = (unsigned int)workload_number(&self, "--order-max", optarg,
								       0, ORDER_MAX);
			break;
		case OPTION_FILL:
			plan.fill_text = optarg;
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		}
	}
	if (!plan.size_text || !plan.rings_text)
		workload_usage(&self, "--bytes and --rings are needed");
	workload_begin(&self);
	prepare(&self, &plan);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++)
		run_round(&self, &plan, &random);
	workload_report(&self);
	printf(", \"rounds\": %llu, \"pages\": %llu, \"ring_blocks\": %llu, "
	       "\"rings_refused\": %llu, \"files\": %llu}\n",
	       (unsigned long long)plan.rounds, (unsigned long long)plan.pages, plan.ring_blocks,
	       plan.refused, (unsigned long long)plan.files);
	return 0;
}
