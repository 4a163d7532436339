/*
 * pktring: takes exactly N unmovable blocks of order K from the page allocator, and gives them
 * back, from plain user space: the receive ring of a packet socket is made of blocks that the
 * kernel allocates one by one (net/packet/af_packet.c, alloc_pg_vec).
 *
 * Sockets, memory and the connection to the sampler are there before the first step, so that
 * between two marks little more than the ring is allocated. When a block of that order cannot be
 * had, the kernel silently makes it of single pages (vzalloc); VmallocUsed gives that away, and the
 * step counts as failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/workload.h"

#define STEPS_MAX  256
#define BLOCKS_MAX 1000000
#define ORDER_MAX  16

/* Below this order, blocks of single pages drown in what else the kernel maps, as stacks. */
#define VMALLOC_ORDER_MIN 3

/* How often the free lists are looked at while waiting for quiet, and for how long at most. */
#define QUIET_POLL_MS	50
#define QUIET_LIMIT_MS	6000
#define BUDDYINFO_BYTES 65536

static const char usage[] = "--step take:BLOCKS:ORDER|drop:STEP|idle ... [--warmup] [--quiet-ms N]";

enum action { ACTION_TAKE, ACTION_DROP, ACTION_IDLE };

struct step {
	enum action action;
	unsigned int blocks;
	unsigned int order;
	/* drop: the number of the step whose ring is released, from 1. */
	unsigned int target;
	/* take: the packet socket, and whether its ring exists. */
	int fd;
	bool holds;
};

struct plan {
	struct step steps[STEPS_MAX];
	unsigned int count;
	bool warmup;
	/* Begin only when the free lists have not changed for so long; 0: at once. */
	unsigned int quiet_ms;
	unsigned int failures;
	/* /proc/meminfo, kept open: reading it again allocates nothing. */
	int meminfo_fd;
};

static void parse_step(const struct workload *self, struct plan *plan, char *text)
{
	struct step *step = &plan->steps[plan->count];
	char whole[64];
	char *rest = text;
	const char *action;
	const char *first;
	const char *second;

	snprintf(whole, sizeof(whole), "%s", text);
	action = strsep(&rest, ":");
	first = strsep(&rest, ":");
	second = strsep(&rest, ":");
	if (plan->count == STEPS_MAX)
		workload_usage(self, "--step %s: more than %d steps", whole, STEPS_MAX);
	*step = (struct step){.fd = -1};
	if (strcmp(action, "take") == 0 && first && second && !rest) {
		step->action = ACTION_TAKE;
		step->blocks = (unsigned int)workload_number(self, "--step take: BLOCKS", first, 1,
							     BLOCKS_MAX);
		step->order = (unsigned int)workload_number(self, "--step take: ORDER", second, 0,
							    ORDER_MAX);
		/* The kernel takes the size of a block as an int. */
		if (sysconf(_SC_PAGESIZE) << step->order > INT32_MAX)
			workload_usage(self, "--step %s: blocks of 2 GiB and more do not exist",
				       whole);
	} else if (strcmp(action, "drop") == 0 && first && !second) {
		step->action = ACTION_DROP;
		step->target = (unsigned int)workload_number(self, "--step drop: STEP", first, 1,
							     STEPS_MAX);
		if (step->target > plan->count ||
		    plan->steps[step->target - 1].action != ACTION_TAKE)
			workload_usage(self, "--step %s: no earlier step %u takes anything", whole,
				       step->target);
	} else if (strcmp(action, "idle") == 0 && !first) {
		step->action = ACTION_IDLE;
	} else {
		workload_usage(self, "--step %s: expected take:BLOCKS:ORDER, drop:STEP or idle",
			       whole);
	}
	plan->count++;
}

/* 0 blocks release the ring. Returns 0, or -1 with errno. */
static int set_ring(const struct step *step, unsigned int blocks)
{
	unsigned int block_bytes = (unsigned int)sysconf(_SC_PAGESIZE) << step->order;
	/* A frame fills its block: the kernel's own bookkeeping goes by frames. */
	struct tpacket_req ring = {.tp_block_size = blocks ? block_bytes : 0,
				   .tp_block_nr = blocks,
				   .tp_frame_size = blocks ? block_bytes : 0,
				   .tp_frame_nr = blocks};

	return setsockopt(step->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring));
}

static long long vmalloc_kib(const struct plan *plan)
{
	char text[4096];
	ssize_t got = pread(plan->meminfo_fd, text, sizeof(text) - 1, 0);
	const char *field;

	text[got > 0 ? got : 0] = '\0';
	field = strstr(text, "VmallocUsed:");
	return field ? atoll(field + strlen("VmallocUsed:")) : 0;
}

/* Takes a ring; false with ENOMEM when some of its blocks are not whole. */
static bool take(const struct plan *plan, struct step *step)
{
	long long block_kib = (sysconf(_SC_PAGESIZE) << step->order) / 1024;
	long long before_kib = vmalloc_kib(plan);

	step->holds = set_ring(step, step->blocks) == 0;
	if (!step->holds)
		return false;
	if (step->order >= VMALLOC_ORDER_MIN && vmalloc_kib(plan) - before_kib >= block_kib) {
		fprintf(stderr, "pktring: blocks of order %u are made of single pages\n",
			step->order);
		errno = ENOMEM;
		return false;
	}
	return true;
}

static bool do_step(struct plan *plan, struct step *step)
{
	struct step *taken;

	switch (step->action) {
	case ACTION_TAKE:
		return take(plan, step);
	case ACTION_DROP:
		taken = &plan->steps[step->target - 1];
		if (!taken->holds) {
			errno = ENOENT;
			return false;
		}
		taken->holds = set_ring(taken, 0) != 0;
		return !taken->holds;
	case ACTION_IDLE:
		break;
	}
	return true;
}

static void mark_step(struct workload *self, const struct step *step, bool done)
{
	const char *failed = done ? "" : "failed/";

	switch (step->action) {
	case ACTION_TAKE:
		workload_mark(self, "%stake/%u/%u", failed, step->blocks, step->order);
		break;
	case ACTION_DROP:
		workload_mark(self, "%sdrop/%u", failed, step->target);
		break;
	case ACTION_IDLE:
		workload_mark(self, "idle");
		break;
	}
}

static void run_steps(struct workload *self, struct plan *plan, bool marked)
{
	if (marked)
		workload_mark(self, "before");
	for (unsigned int i = 0; i < plan->count; i++) {
		struct step *step = &plan->steps[i];
		bool done = do_step(plan, step);

		if (!done) {
			fprintf(stderr, "pktring: %sstep %u: %s\n", marked ? "" : "warm-up ", i + 1,
				strerror(errno));
			plan->failures++;
		}
		if (marked)
			mark_step(self, step, done);
	}
}

static void read_buddyinfo(const struct workload *self, int fd, char *text)
{
	ssize_t got = pread(fd, text, BUDDYINFO_BYTES - 1, 0);

	if (got < 0)
		workload_fail(self, "/proc/buddyinfo");
	text[got] = '\0';
}

/*
 * Waits for free lists at rest: after a load the kernel still drains per-cpu lists for seconds.
 * Returns false when they never came to rest.
 */
static bool wait_quiet(const struct workload *self, unsigned int quiet_ms)
{
	static char last[BUDDYINFO_BYTES];
	static char now[BUDDYINFO_BYTES];
	int fd = open("/proc/buddyinfo", O_RDONLY | O_CLOEXEC);
	unsigned int still_ms = 0;

	if (fd == -1)
		workload_fail(self, "/proc/buddyinfo");
	read_buddyinfo(self, fd, last);
	for (unsigned int waited_ms = 0; still_ms < quiet_ms && waited_ms < QUIET_LIMIT_MS;
	     waited_ms += QUIET_POLL_MS) {
		usleep(QUIET_POLL_MS * 1000);
		read_buddyinfo(self, fd, now);
		still_ms += QUIET_POLL_MS;
		if (strcmp(last, now) != 0)
			still_ms = 0;
		memcpy(last, now, sizeof(last));
	}
	close(fd);
	return still_ms >= quiet_ms;
}

static void release_all(struct plan *plan)
{
	for (unsigned int i = 0; i < plan->count; i++)
		if (plan->steps[i].holds)
			plan->steps[i].holds = set_ring(&plan->steps[i], 0) != 0;
}

static void open_sockets(const struct workload *self, struct plan *plan)
{
	for (unsigned int i = 0; i < plan->count; i++) {
		struct step *step = &plan->steps[i];

		if (step->action != ACTION_TAKE)
			continue;
		/* Protocol 0: it receives nothing. */
		step->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
		if (step->fd == -1)
			workload_fail(self, "step %u: packet socket", i + 1);
	}
}

int main(int argc, char **argv)
{
	enum { OPTION_STEP = 1, OPTION_WARMUP, OPTION_QUIET_MS };
	static const struct option options[] = {
		{"step", required_argument, NULL, OPTION_STEP},
		{"warmup", no_argument, NULL, OPTION_WARMUP},
		{"quiet-ms", required_argument, NULL, OPTION_QUIET_MS},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan;
	struct workload self;
	unsigned long long held_pages = 0;
	bool quiet;
	int option;

	workload_init(&self, "pktring", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		if (option == OPTION_STEP)
			parse_step(&self, &plan, optarg);
		else if (option == OPTION_QUIET_MS)
			plan.quiet_ms = (unsigned int)workload_number(&self, "--quiet-ms", optarg,
								      0, QUIET_LIMIT_MS);
		else
			plan.warmup = true;
	}
	if (plan.count == 0)
		workload_usage(&self, "--step: give at least one");
	workload_begin(&self);
	open_sockets(&self, &plan);
	plan.meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (plan.meminfo_fd == -1 || vmalloc_kib(&plan) < 0)
		workload_fail(&self, "/proc/meminfo");
	/* Best effort: what is not locked is still touched by the warm-up. */
	(void)mlockall(MCL_CURRENT | MCL_FUTURE);
	if (plan.warmup) {
		run_steps(&self, &plan, false);
		release_all(&plan);
	}
	quiet = wait_quiet(&self, plan.quiet_ms);
	run_steps(&self, &plan, true);
	for (unsigned int i = 0; i < plan.count; i++)
		if (plan.steps[i].holds)
			held_pages += (unsigned long long)plan.steps[i].blocks
				      << plan.steps[i].order;
	workload_report(&self);
	printf(", \"steps\": %u, \"warmup\": %s, \"quiet\": %s, \"failed_steps\": %u, "
	       "\"held_pages\": %llu}\n",
	       plan.count, plan.warmup ? "true" : "false", quiet ? "true" : "false", plan.failures,
	       held_pages);
	return plan.failures ? 1 : 0;
}
