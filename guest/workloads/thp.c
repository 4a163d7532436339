/*
 * thp: anonymous memory that asks for transparent huge pages, touched one byte a page; then holes
 * of single pages are given back in a seeded order, so that huge pages must be split, and all of
 * it is released.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define ROUNDS_MAX 1000000
#define SIZE_PATH  "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

static const char usage[] = "--bytes SIZE|PERCENT% [--rounds N] [--holes N]";

struct plan {
	const char *size_text;
	uint64_t rounds;
	/* Pages given back of each huge page. */
	uint64_t holes;
	size_t huge_bytes;
	size_t page_bytes;
	uint64_t huge_pages;
	unsigned long long given_back;
	/* What AnonHugePages says when all is touched, summed over the rounds. */
	unsigned long long huge_kb;
};

static unsigned long long anon_huge_kb(const struct workload *self)
{
	char text[4096];
	const char *field;

	if (read_text("/proc/self/smaps_rollup", text, sizeof(text)) == -1)
		workload_fail(self, "/proc/self/smaps_rollup");
	field = strstr(text, "AnonHugePages:");
	return field ? strtoull(field + strlen("AnonHugePages:"), NULL, 10) : 0;
}

static void run_round(struct workload *self, struct plan *plan, struct random *random)
{
	size_t bytes = plan->huge_pages * plan->huge_bytes;
	uint64_t pages = plan->huge_bytes / plan->page_bytes;
	/* One huge page more, so that there is an aligned part of the size wanted. */
	char *mapped = mmap(NULL, bytes + plan->huge_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t start;
	char *memory;

	if (mapped == MAP_FAILED)
		workload_fail(self, "--bytes %s", plan->size_text);
	start = (uintptr_t)mapped + plan->huge_bytes - 1;
	memory = mapped + (start - start % plan->huge_bytes - (uintptr_t)mapped);
	if (madvise(memory, bytes, MADV_HUGEPAGE))
		workload_fail(self, "asking for huge pages");
	for (size_t at = 0; at < bytes; at += plan->page_bytes)
		*(volatile char *)(memory + at) = 1;
	plan->huge_kb += anon_huge_kb(self);
	workload_mark(self, "touch/%llu", (unsigned long long)plan->huge_pages);
	for (uint64_t huge = 0; huge < plan->huge_pages; huge++)
		for (uint64_t hole = 0; hole < plan->holes; hole++) {
			uint64_t page = huge * pages + random_below(random, pages);

			if (madvise(memory + page * plan->page_bytes, plan->page_bytes,
				    MADV_DONTNEED))
				workload_fail(self, "giving back a page");
			plan->given_back++;
		}
	workload_mark(self, "holes/%llu", (unsigned long long)plan->holes);
	munmap(mapped, bytes + plan->huge_bytes);
	workload_mark(self, "release");
}

static void find_size(const struct workload *self, struct plan *plan)
{
	char text[32];

	if (read_text(SIZE_PATH, text, sizeof(text)) == -1)
		workload_fail(self, "%s", SIZE_PATH);
	plan->huge_bytes = strtoull(text, NULL, 10);
	plan->huge_pages = workload_memory(self, "--bytes", plan->size_text) / plan->huge_bytes;
	if (plan->huge_pages == 0)
		workload_usage(self, "--bytes %s: less than a huge page of %zu bytes",
			       plan->size_text, plan->huge_bytes);
}

int main(int argc, char **argv)
{
	enum { OPTION_BYTES = 1, OPTION_ROUNDS, OPTION_HOLES };
	static const struct option options[] = {
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		{"holes", required_argument, NULL, OPTION_HOLES},
		WORKLOAD_OPTIONS,
	};
	struct plan plan = {.rounds = 1, .holes = 4, .page_bytes = (size_t)sysconf(_SC_PAGESIZE)};
	struct random random;
	struct workload self;
	int option;

	workload_init(&self, "thp", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		case OPTION_HOLES:
			plan.holes = workload_number(&self, "--holes", optarg, 0, 65536);
			break;
		}
	}
	if (!plan.size_text)
		workload_usage(&self, "--bytes is needed");
	workload_begin(&self);
	find_size(&self, &plan);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++)
		run_round(&self, &plan, &random);
	workload_report(&self);
	printf(", \"rounds\": %llu, \"huge_pages\": %llu, \"huge_bytes\": %zu, "
	       "\"given_back\": %llu, \"anon_huge_kb\": %llu}\n",
	       (unsigned long long)plan.rounds, (unsigned long long)plan.huge_pages,
	       plan.huge_bytes, plan.given_back, plan.huge_kb);
	return 0;
}
