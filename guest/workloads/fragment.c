/*
 * fragment: touches anonymous memory and gives part of its pages back in a pattern, which leaves
 * free memory in pieces of known size between pages in use. With --compact the kernel is then told
 * to put the pieces together; with --hold-ms the pages in use stay where they are for so long, for
 * the kernel to do so by itself.
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

#define ROUNDS_MAX   1000000
#define HOLD_MAX_MS  600000
#define COMPACT_PATH "/proc/sys/vm/compact_memory"

static const char usage[] = "--bytes SIZE|PERCENT% --pattern stride:N|random:PERCENT|runs:LENGTH "
			    "[--rounds N] [--no-huge] [--compact] [--hold-ms N]";

enum pattern {
	/* One page in N is given back. */
	PATTERN_STRIDE,
	/* Each page is given back with that probability. */
	PATTERN_RANDOM,
	/* LENGTH pages stay, LENGTH pages go, and so on. */
	PATTERN_RUNS,
};

struct plan {
	const char *size_text;
	const char *pattern_text;
	enum pattern pattern;
	uint64_t argument;
	uint64_t rounds;
	bool no_huge;
	bool compact;
	unsigned int hold_ms;
	uint64_t pages;
	size_t page_bytes;
};

static void parse_pattern(const struct workload *self, struct plan *plan, const char *text)
{
	static const struct {
		const char *name;
		enum pattern pattern;
		uint64_t min;
		uint64_t max;
	} patterns[] = {
		{"stride:", PATTERN_STRIDE, 1, UINT32_MAX},
		{"random:", PATTERN_RANDOM, 0, 100},
		{"runs:", PATTERN_RUNS, 1, UINT32_MAX},
	};

	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		size_t length = strlen(patterns[i].name);

		if (strncmp(text, patterns[i].name, length) != 0)
			continue;
		plan->pattern_text = text;
		plan->pattern = patterns[i].pattern;
		plan->argument = workload_number(self, "--pattern", text + length, patterns[i].min,
						 patterns[i].max);
		return;
	}
	workload_usage(self, "--pattern %s: expected stride:N, random:PERCENT or runs:LENGTH",
		       text);
}

static bool goes(const struct plan *plan, struct random *random, uint64_t page)
{
	switch (plan->pattern) {
	case PATTERN_STRIDE:
		return page % plan->argument == 0;
	case PATTERN_RANDOM:
		return random_below(random, 100) < plan->argument;
	case PATTERN_RUNS:
		return page / plan->argument % 2 == 1;
	}
	return false;
}

static char *touch(const struct workload *self, const struct plan *plan)
{
	char *memory = mmap(NULL, plan->pages * plan->page_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		workload_fail(self, "--bytes %s", plan->size_text);
	/* EINVAL: a kernel without huge pages gives none. */
	if (plan->no_huge && madvise(memory, plan->pages * plan->page_bytes, MADV_NOHUGEPAGE) &&
	    errno != EINVAL)
		workload_fail(self, "--no-huge");
	for (uint64_t page = 0; page < plan->pages; page++)
		*(volatile char *)(memory + page * plan->page_bytes) = 1;
	return memory;
}

/* Gives pages back, adjoining ones in one call; the number of pages given back. */
static uint64_t give_back(const struct workload *self, const struct plan *plan,
			  struct random *random, char *memory)
{
	uint64_t given = 0;
	uint64_t run = 0;

	for (uint64_t page = 0; page <= plan->pages; page++) {
		if (page < plan->pages && goes(plan, random, page)) {
			run++;
			continue;
		}
		if (run > 0 && madvise(memory + (page - run) * plan->page_bytes,
				       run * plan->page_bytes, MADV_DONTNEED))
			workload_fail(self, "giving back %llu pages", (unsigned long long)run);
		given += run;
		run = 0;
	}
	return given;
}

int main(int argc, char **argv)
{
	enum {
		OPTION_BYTES = 1,
		OPTION_PATTERN,
		OPTION_ROUNDS,
		OPTION_NO_HUGE,
		OPTION_COMPACT,
		OPTION_HOLD_MS
	};
	static const struct option options[] = {
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"pattern", required_argument, NULL, OPTION_PATTERN},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		{"no-huge", no_argument, NULL, OPTION_NO_HUGE},
		{"compact", no_argument, NULL, OPTION_COMPACT},
		{"hold-ms", required_argument, NULL, OPTION_HOLD_MS},
		WORKLOAD_OPTIONS,
	};
	struct plan plan = {.rounds = 1, .page_bytes = (size_t)sysconf(_SC_PAGESIZE)};
	unsigned long long given = 0;
	struct random random;
	struct workload self;
	int option;

	workload_init(&self, "fragment", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_PATTERN:
			parse_pattern(&self, &plan, optarg);
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		case OPTION_NO_HUGE:
			plan.no_huge = true;
			break;
		case OPTION_COMPACT:
			plan.compact = true;
			break;
		case OPTION_HOLD_MS:
			plan.hold_ms = (unsigned int)workload_number(&self, "--hold-ms", optarg, 0,
								     HOLD_MAX_MS);
			break;
		}
	}
	if (!plan.size_text || !plan.pattern_text)
		workload_usage(&self, "--bytes and --pattern are needed");
	/* A percentage is of the node's memory, and --node may come last. */
	plan.pages = workload_memory(&self, "--bytes", plan.size_text) / plan.page_bytes;
	if (plan.pages == 0)
		workload_usage(&self, "--bytes %s: less than a page", plan.size_text);
	workload_begin(&self);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++) {
		char *memory = touch(&self, &plan);
		uint64_t now;

		workload_mark(&self, "touch/%llu", (unsigned long long)plan.pages);
		now = give_back(&self, &plan, &random, memory);
		given += now;
		workload_mark(&self, "free/%llu", (unsigned long long)now);
		if (plan.compact) {
			if (write_text(COMPACT_PATH, "1"))
				workload_fail(&self, "writing to %s", COMPACT_PATH);
			workload_mark(&self, "compact");
		}
		if (plan.hold_ms) {
			sleep_ms(plan.hold_ms);
			workload_mark(&self, "hold/%u", plan.hold_ms);
		}
		munmap(memory, plan.pages * plan.page_bytes);
		workload_mark(&self, "release/%llu", (unsigned long long)(plan.pages - now));
	}
	workload_report(&self);
	printf(", \"pattern\": \"%s\", \"rounds\": %llu, \"pages\": %llu, \"given_back\": %llu}\n",
	       plan.pattern_text, (unsigned long long)plan.rounds, (unsigned long long)plan.pages,
	       given);
	return 0;
}
