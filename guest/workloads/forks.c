/*
 * forks: processes that are forked from one with memory, write to a seeded part of it, and exit;
 * several live at once. Page tables, kernel stacks and copied pages come and go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/random.h"
#include "lib/workload.h"

#define PROCESSES_MAX 1000000
#define PARALLEL_MAX  1024

static const char usage[] = "--processes N --bytes SIZE|PERCENT% [--parallel N] [--write PERCENT]";

struct plan {
	const char *size_text;
	uint64_t processes;
	uint64_t parallel;
	unsigned int write_percent;
	uint64_t pages;
	size_t page_bytes;
	char *memory;
};

/* Ends with status 0; what it writes is copied for it alone. */
_Noreturn static void be_child(const struct plan *plan, uint64_t seed)
{
	struct random random = {.state = seed};

	for (uint64_t page = 0; page < plan->pages; page++)
		if (random_below(&random, 100) < plan->write_percent)
			*(volatile char *)(plan->memory + page * plan->page_bytes) = 2;
	_exit(0);
}

/* Waits for one child; a child that did not end well ends us. */
static void reap(const struct workload *self)
{
	int status;

	while (wait(&status) == -1)
		if (errno != EINTR)
			workload_fail(self, "waiting for a process");
	if (status != 0) {
		errno = WIFSIGNALED(status) ? EINTR : EIO;
		workload_fail(self, "a process ended with wait status %#x", (unsigned int)status);
	}
}

static void run(struct workload *self, const struct plan *plan)
{
	struct random random = {.state = self->seed};
	uint64_t alive = 0;

	for (uint64_t number = 0; number < plan->processes; number++) {
		uint64_t seed = random_next(&random);
		pid_t pid;

		if (alive == plan->parallel) {
			reap(self);
			alive--;
		}
		pid = fork();
		if (pid == 0)
			be_child(plan, seed);
		if (pid == -1)
			workload_fail(self, "process %llu", (unsigned long long)number);
		alive++;
	}
	for (; alive > 0; alive--)
		reap(self);
}

static void touch(const struct workload *self, struct plan *plan)
{
	size_t bytes = plan->pages * plan->page_bytes;

	plan->memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (plan->memory == MAP_FAILED)
		workload_fail(self, "--bytes %s", plan->size_text);
	/* Copied page by page; EINVAL: a kernel without huge pages has no other way. */
	if (madvise(plan->memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		workload_fail(self, "--bytes %s: no huge pages", plan->size_text);
	memset(plan->memory, 1, bytes);
}

int main(int argc, char **argv)
{
	enum { OPTION_PROCESSES = 1, OPTION_BYTES, OPTION_PARALLEL, OPTION_WRITE };
	static const struct option options[] = {
		{"processes", required_argument, NULL, OPTION_PROCESSES},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"parallel", required_argument, NULL, OPTION_PARALLEL},
		{"write", required_argument, NULL, OPTION_WRITE},
		WORKLOAD_OPTIONS,
	};
	struct plan plan = {
		.parallel = 4, .write_percent = 25, .page_bytes = (size_t)sysconf(_SC_PAGESIZE)};
	struct workload self;
	int option;

	workload_init(&self, "forks", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_PROCESSES:
			plan.processes =
				workload_number(&self, "--processes", optarg, 1, PROCESSES_MAX);
			break;
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_PARALLEL:
			plan.parallel =
				workload_number(&self, "--parallel", optarg, 1, PARALLEL_MAX);
			break;
		case OPTION_WRITE:
			plan.write_percent =
				(unsigned int)workload_number(&self, "--write", optarg, 0, 100);
			break;
		}
	}
	if (plan.processes == 0 || !plan.size_text)
		workload_usage(&self, "--processes and --bytes are needed");
	plan.pages = workload_memory(&self, "--bytes", plan.size_text) / plan.page_bytes;
	if (plan.pages == 0)
		workload_usage(&self, "--bytes %s: less than a page", plan.size_text);
	workload_begin(&self);
	touch(&self, &plan);
	workload_mark(&self, "before");
	run(&self, &plan);
	workload_mark(&self, "forks/%llu", (unsigned long long)plan.processes);
	workload_report(&self);
	printf(", \"processes\": %llu, \"parallel\": %llu, \"write_percent\": %u, "
	       "\"pages\": %llu}\n",
	       (unsigned long long)plan.processes, (unsigned long long)plan.parallel,
	       plan.write_percent, (unsigned long long)plan.pages);
	return 0;
}
