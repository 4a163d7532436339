/*
 * thrash: touches anonymous memory from end to end, then pages of it in a seeded order. With more
 * memory than the guest has, pages go to swap and come back; without swap, the OOM killer comes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/random.h"
#include "lib/workload.h"

#define TOUCHES_MAX 100000000

static const char usage[] = "--bytes SIZE|PERCENT% [--touches N] [--write PERCENT]";

struct plan {
	const char *size_text;
	uint64_t touches;
	unsigned int write_percent;
	uint64_t pages;
	size_t page_bytes;
	unsigned long long wrong;
};

static void run(struct workload *self, struct plan *plan)
{
	struct random random = {.state = self->seed};
	size_t bytes = plan->pages * plan->page_bytes;
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		workload_fail(self, "--bytes %s", plan->size_text);
	/* EINVAL: a kernel without huge pages gives none. */
	if (madvise(memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		workload_fail(self, "--bytes %s: no huge pages", plan->size_text);
	workload_mark(self, "before");
	/* Each page holds its own number, so that what comes back from swap can be checked. */
	for (uint64_t page = 0; page < plan->pages; page++)
		*(volatile uint64_t *)(memory + page * plan->page_bytes) = page;
	workload_mark(self, "touch/%llu", (unsigned long long)plan->pages);
	for (uint64_t touch = 0; touch < plan->touches; touch++) {
		uint64_t page = random_below(&random, plan->pages);
		volatile uint64_t *word = (volatile uint64_t *)(memory + page * plan->page_bytes);

		if (*word != page)
			plan->wrong++;
		if (random_below(&random, 100) < plan->write_percent)
			*word = page;
	}
	workload_mark(self, "again/%llu", (unsigned long long)plan->touches);
	munmap(memory, bytes);
	workload_mark(self, "release/%llu", (unsigned long long)plan->pages);
}

int main(int argc, char **argv)
{
	enum { OPTION_BYTES = 1, OPTION_TOUCHES, OPTION_WRITE };
	static const struct option options[] = {
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"touches", required_argument, NULL, OPTION_TOUCHES},
		{"write", required_argument, NULL, OPTION_WRITE},
		WORKLOAD_OPTIONS,
	};
	struct plan plan = {.write_percent = 50, .page_bytes = (size_t)sysconf(_SC_PAGESIZE)};
	struct workload self;
	int option;

	workload_init(&self, "thrash", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_TOUCHES:
			plan.touches = workload_number(&self, "--touches", optarg, 0, TOUCHES_MAX);
			break;
		case OPTION_WRITE:
			plan.write_percent =
				(unsigned int)workload_number(&self, "--write", optarg, 0, 100);
			break;
		}
	}
	if (!plan.size_text)
		workload_usage(&self, "--bytes is needed");
	plan.pages = workload_memory(&self, "--bytes", plan.size_text) / plan.page_bytes;
	if (plan.pages == 0)
		workload_usage(&self, "--bytes %s: less than a page", plan.size_text);
	workload_begin(&self);
	run(&self, &plan);
	workload_report(&self);
	printf(", \"pages\": %llu, \"touches\": %llu, \"wrong\": %llu}\n",
	       (unsigned long long)plan.pages, (unsigned long long)plan.touches, plan.wrong);
	return plan.wrong ? 1 : 0;
}
