/*
 * hugetlb: lets the kernel gather huge pages of one size by its sysfs counter, maps and touches
 * them, and gives them back, step by step. How many it really got is data: on memory in pieces,
 * or for pages larger than any block of the allocator, it may be few or none.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define PAGES_MAX     1000000
#define ROUNDS_MAX    1000000
#define SIZE_KB_MAX   (1 << 30)
#define COUNTERS_PATH "/sys/kernel/mm/hugepages"

static const char usage[] = "--pages N [--size-kb N] [--steps N] [--rounds N]";

struct plan {
	uint64_t pages;
	/* 0: the kernel's default size. */
	uint64_t size_kb;
	uint64_t steps;
	uint64_t rounds;
	char counter[128];
	unsigned long long got_pages;
	unsigned long long mapped_pages;
};

static uint64_t default_size_kb(const struct workload *self)
{
	char text[8192];
	const char *field;

	if (read_text("/proc/meminfo", text, sizeof(text)) == -1)
		workload_fail(self, "/proc/meminfo");
	field = strstr(text, "Hugepagesize:");
	if (!field)
		workload_usage(self, "this kernel has no huge pages");
	return strtoull(field + strlen("Hugepagesize:"), NULL, 10);
}

static uint64_t read_counter(const struct workload *self, const struct plan *plan)
{
	char text[32];

	if (read_text(plan->counter, text, sizeof(text)) == -1)
		workload_fail(self, "%s", plan->counter);
	return strtoull(text, NULL, 10);
}

/* Asks for that many; the number that there are then. */
static uint64_t set_counter(const struct workload *self, const struct plan *plan, uint64_t pages)
{
	char text[32];

	format_text(text, sizeof(text), "%llu", (unsigned long long)pages);
	if (write_text(plan->counter, text))
		workload_fail(self, "writing %s to %s", text, plan->counter);
	return read_counter(self, plan);
}

static void map_and_touch(const struct workload *self, struct plan *plan, uint64_t pages)
{
	size_t page_bytes = plan->size_kb << 10;
	int size_flag = __builtin_ctzll(page_bytes) << MAP_HUGE_SHIFT;
	char *memory;

	if (pages == 0)
		return;
	memory = mmap(NULL, pages * page_bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | size_flag, -1, 0);
	if (memory == MAP_FAILED)
		workload_fail(self, "mapping %llu huge pages", (unsigned long long)pages);
	for (uint64_t page = 0; page < pages; page++)
		*(volatile char *)(memory + page * page_bytes) = 1;
	munmap(memory, pages * page_bytes);
	plan->mapped_pages += pages;
}

static void run_round(struct workload *self, struct plan *plan, struct random *random)
{
	uint64_t got = 0;

	for (uint64_t step = 1; step <= plan->steps; step++) {
		got = set_counter(self, plan, plan->pages * step / plan->steps);
		workload_mark(self, "up/%llu", (unsigned long long)got);
	}
	plan->got_pages += got;
	map_and_touch(self, plan, got);
	/* Down in two steps, the first of a seeded size. */
	if (got > 1)
		set_counter(self, plan, random_below(random, got));
	got = set_counter(self, plan, 0);
	workload_mark(self, "down/%llu", (unsigned long long)got);
}

static void find_counter(const struct workload *self, struct plan *plan)
{
	if (plan->size_kb == 0)
		plan->size_kb = default_size_kb(self);
	if (plan->size_kb & (plan->size_kb - 1))
		workload_usage(self, "--size-kb %llu: expected a power of two",
			       (unsigned long long)plan->size_kb);
	/* The second counter heeds the memory policy of whoever writes to it. */
	format_text(plan->counter, sizeof(plan->counter), "%s/hugepages-%llukB/%s", COUNTERS_PATH,
		    (unsigned long long)plan->size_kb,
		    self->node >= 0 ? "nr_hugepages_mempolicy" : "nr_hugepages");
	(void)read_counter(self, plan);
}

int main(int argc, char **argv)
{
	enum { OPTION_PAGES = 1, OPTION_SIZE_KB, OPTION_STEPS, OPTION_ROUNDS };
	static const struct option options[] = {
		{"pages", required_argument, NULL, OPTION_PAGES},
		{"size-kb", required_argument, NULL, OPTION_SIZE_KB},
		{"steps", required_argument, NULL, OPTION_STEPS},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.steps = 4, .rounds = 1};
	struct random random;
	struct workload self;
	int option;

	workload_init(&self, "hugetlb", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_PAGES:
			plan.pages = workload_number(&self, "--pages", optarg, 1, PAGES_MAX);
			break;
		case OPTION_SIZE_KB:
			plan.size_kb = workload_number(&self, "--size-kb", optarg, 1, SIZE_KB_MAX);
			break;
		case OPTION_STEPS:
			plan.steps = workload_number(&self, "--steps", optarg, 1, PAGES_MAX);
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		}
	}
	if (plan.pages == 0)
		workload_usage(&self, "--pages is needed");
	workload_begin(&self);
	find_counter(&self, &plan);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++)
		run_round(&self, &plan, &random);
	workload_report(&self);
	printf(", \"size_kb\": %llu, \"pages\": %llu, \"rounds\": %llu, \"got_pages\": %llu, "
	       "\"mapped_pages\": %llu}\n",
	       (unsigned long long)plan.size_kb, (unsigned long long)plan.pages,
	       (unsigned long long)plan.rounds, plan.got_pages, plan.mapped_pages);
	return 0;
}
