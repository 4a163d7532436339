/*
 * pagewalk: maps memory of several kinds, fills every page with numbers that follow from the seed,
 * and prints for each page what the kernel says of it in /proc/self/pagemap, /proc/kpageflags and
 * /proc/kpagecount: one line a page, a header first. With --hold it then makes a named pipe, stands
 * still until somebody writes to it, and prints all of it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define AREAS_MAX	16
#define PAGES_MAX	(1 << 24)
#define HOLD_LIMIT_S	600
#define HUGE_SIZE_PATH	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PFN	((UINT64_C(1) << 55) - 1)
#define MPOL_BIND	2

static const char usage[] =
	"--area anon:PAGES[:NODE]|huge:COUNT[:NODE]|forked:PAGES[:NODE]|holes:PAGES:KEPT:OF|"
	"file:PATH:PAGES ... [--hold FILE] [--quiet]";

enum kind { KIND_ANON, KIND_HUGE, KIND_FORKED, KIND_HOLES, KIND_FILE };

static const char *const kinds[] = {"anon", "huge", "forked", "holes", "file"};

struct area {
	enum kind kind;
	const char *path;
	uint64_t pages;
	/* holes: of each `of` frames the first `kept` stay, pages in others are given back. */
	uint64_t kept;
	uint64_t of;
	int node;
	char *memory;
};

struct plan {
	struct area areas[AREAS_MAX];
	unsigned int count;
	const char *hold;
	bool quiet;
	size_t page_bytes;
	int pagemap_fd;
	int flags_fd;
	int count_fd;
};

static uint64_t part_number(const struct workload *self, const char *part, uint64_t min)
{
	return workload_number(self, "--area", part, min, PAGES_MAX);
}

static void parse_area(const struct workload *self, struct plan *plan, char *text)
{
	char whole[128];
	char *parts[4] = {NULL};
	unsigned int count = 0;
	struct area *area = &plan->areas[plan->count];

	snprintf(whole, sizeof(whole), "%s", text);
	if (plan->count == AREAS_MAX)
		workload_usage(self, "--area %s: more than %d areas", whole, AREAS_MAX);
	for (char *part; (part = strsep(&text, ":"));) {
		if (count == 4)
			workload_usage(self, "--area %s: too many parts", whole);
		parts[count++] = part;
	}
	*area = (struct area){.node = -1, .kept = 1, .of = 1};
	while (strcmp(parts[0], kinds[area->kind]) != 0)
		if (++area->kind > KIND_FILE)
			workload_usage(self, "--area %s: no such kind", whole);
	switch (area->kind) {
	case KIND_FILE:
		if (count != 3)
			workload_usage(self, "--area %s: expected file:PATH:PAGES", whole);
		area->path = parts[1];
		area->pages = part_number(self, parts[2], 1);
		break;
	case KIND_HOLES:
		if (count != 4)
			workload_usage(self, "--area %s: expected holes:PAGES:KEPT:OF", whole);
		area->pages = part_number(self, parts[1], 1);
		area->kept = part_number(self, parts[2], 0);
		area->of = part_number(self, parts[3], 1);
		if (area->kept > area->of)
			workload_usage(self, "--area %s: keeps more than there is", whole);
		break;
	default:
		if (count < 2 || count > 3)
			workload_usage(self, "--area %s: expected %s:PAGES[:NODE]", whole,
				       kinds[area->kind]);
		area->pages = part_number(self, parts[1], 1);
		if (parts[2])
			area->node = (int)workload_number(self, "--area: NODE", parts[2], 0, 1023);
	}
	plan->count++;
}

/* What page holds: a sequence of its own for every page of every area. */
static void fill(const struct workload *self, unsigned int area, uint64_t page, uint64_t *words,
		 size_t count)
{
	struct random random = {.state = self->seed ^ ((uint64_t)area << 32 | page)};

	for (size_t i = 0; i < count; i++)
		words[i] = random_next(&random);
}

static void bind_to(const struct workload *self, void *memory, size_t bytes, int node)
{
	unsigned long mask[1024 / (8 * sizeof(unsigned long))] = {0};

	mask[(unsigned int)node / (8 * sizeof(mask[0]))] = 1UL << node % (8 * sizeof(mask[0]));
	if (syscall(SYS_mbind, memory, bytes, MPOL_BIND, mask, (unsigned long)1024, 0UL))
		workload_fail(self, "binding memory to node %d", node);
}

static void map_file(const struct workload *self, struct area *area, unsigned int number,
		     size_t page_bytes)
{
	uint64_t *words = malloc(page_bytes);
	int fd = open(area->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd == -1 || !words)
		workload_fail(self, "%s", area->path);
	for (uint64_t page = 0; page < area->pages; page++) {
		fill(self, number, page, words, page_bytes / sizeof(*words));
		if (write_all(fd, words, page_bytes, 0))
			workload_fail(self, "writing %s", area->path);
	}
	area->memory = mmap(NULL, area->pages * page_bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (area->memory == MAP_FAILED)
		workload_fail(self, "mapping %s", area->path);
	for (uint64_t page = 0; page < area->pages; page++)
		(void)*(volatile char *)(area->memory + page * page_bytes);
	close(fd);
	free(words);
}

/* Turns a number of huge pages into pages, and says how many bytes a huge page has. */
static size_t huge_bytes(const struct workload *self, struct area *area, size_t page_bytes)
{
	char text[32];
	size_t bytes;

	if (read_text(HUGE_SIZE_PATH, text, sizeof(text)) == -1)
		workload_fail(self, "%s", HUGE_SIZE_PATH);
	bytes = strtoull(text, NULL, 10);
	area->pages *= bytes / page_bytes;
	return bytes;
}

static void map_anonymous(const struct workload *self, struct area *area, unsigned int number,
			  size_t page_bytes)
{
	bool huge = area->kind == KIND_HUGE;
	size_t align = huge ? huge_bytes(self, area, page_bytes) : page_bytes;
	size_t bytes = area->pages * page_bytes;
	char *mapped = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mapped == MAP_FAILED)
		workload_fail(self, "mapping %zu bytes", bytes);
	area->memory = mapped + (align - (uintptr_t)mapped % align) % align;
	/* EINVAL: a kernel without huge pages has none to refuse. */
	if (madvise(area->memory, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) &&
	    (huge || errno != EINVAL))
		workload_fail(self, "asking for huge pages");
	if (area->node >= 0)
		bind_to(self, area->memory, bytes, area->node);
	for (uint64_t page = 0; page < area->pages; page++)
		fill(self, number, page, (uint64_t *)(area->memory + page * page_bytes),
		     page_bytes / sizeof(uint64_t));
}

static uint64_t word_of(const struct workload *self, int fd, const char *path, uint64_t index)
{
	uint64_t word;

	if (pread(fd, &word, sizeof(word), (off_t)(index * sizeof(word))) != sizeof(word))
		workload_fail(self, "%s, entry %" PRIu64, path, index);
	return word;
}

/*
 * Gives pages back by the numbers of their frames, so that what is free afterwards is made of
 * blocks of known sizes, wherever the pages came from.
 */
static void punch(const struct workload *self, const struct plan *plan, const struct area *area)
{
	for (uint64_t page = 0; page < area->pages; page++) {
		char *memory = area->memory + page * plan->page_bytes;
		uint64_t entry = word_of(self, plan->pagemap_fd, "/proc/self/pagemap",
					 (uintptr_t)memory / plan->page_bytes);

		if ((entry & PAGEMAP_PFN) % area->of >= area->kept &&
		    madvise(memory, plan->page_bytes, MADV_DONTNEED))
			workload_fail(self, "giving back a page");
	}
}

static void report_page(const struct workload *self, const struct plan *plan, unsigned int round,
			unsigned int number, uint64_t page)
{
	const struct area *area = &plan->areas[number];
	uintptr_t address = (uintptr_t)area->memory + page * plan->page_bytes;
	uint64_t entry =
		word_of(self, plan->pagemap_fd, "/proc/self/pagemap", address / plan->page_bytes);
	uint64_t pfn = entry & PAGEMAP_PFN;
	uint64_t flags = 0;
	uint64_t count = 0;
	void *where = (void *)address;
	int node = -1;

	/* Given back, or the reader may not see frames. */
	if (!(entry & PAGEMAP_PRESENT) || pfn == 0)
		return;
	flags = word_of(self, plan->flags_fd, "/proc/kpageflags", pfn);
	count = word_of(self, plan->count_fd, "/proc/kpagecount", pfn);
	/* Without a list of nodes it only says where the page is; ENOSYS: no NUMA. */
	if (syscall(SYS_move_pages, 0, 1UL, &where, NULL, &node, 0))
		node = -1;
	printf("%u %u %s %" PRIu64 " %#" PRIxPTR " %#" PRIx64 " %#" PRIx64 " %" PRIu64 " %d\n",
	       round, number, kinds[area->kind], page, address, entry, flags, count, node);
}

static void report(const struct workload *self, const struct plan *plan, unsigned int round)
{
	if (!plan->quiet)
		for (unsigned int number = 0; number < plan->count; number++)
			for (uint64_t page = 0; page < plan->areas[number].pages; page++)
				report_page(self, plan, round, number, page);
	printf("# round %u done\n", round);
	fflush(stdout);
}

/* Shares what may be shared with a child that does nothing but be there. */
static pid_t fork_sleeper(const struct workload *self, const struct plan *plan)
{
	pid_t child;

	for (unsigned int number = 0; number < plan->count; number++) {
		const struct area *area = &plan->areas[number];

		if (area->kind != KIND_FORKED &&
		    madvise(area->memory, area->pages * plan->page_bytes, MADV_DONTFORK))
			workload_fail(self, "keeping memory from the child");
	}
	child = fork();
	if (child == -1)
		workload_fail(self, "fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return child;
}

/* Nothing runs meanwhile: opening the pipe waits until somebody writes to it. */
static void hold(const struct workload *self, const struct plan *plan)
{
	int fd;

	if (mkfifo(plan->hold, 0600) && errno != EEXIST)
		workload_fail(self, "--hold %s", plan->hold);
	printf("# holding\n");
	fflush(stdout);
	/* Ends the program where nobody ever comes. */
	alarm(HOLD_LIMIT_S);
	fd = open(plan->hold, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		workload_fail(self, "--hold %s", plan->hold);
	alarm(0);
	close(fd);
}

static int open_or_fail(const struct workload *self, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		workload_fail(self, "%s", path);
	return fd;
}

int main(int argc, char **argv)
{
	enum { OPTION_AREA = 1, OPTION_HOLD, OPTION_QUIET };
	static const struct option options[] = {
		{"area", required_argument, NULL, OPTION_AREA},
		{"hold", required_argument, NULL, OPTION_HOLD},
		{"quiet", no_argument, NULL, OPTION_QUIET},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan;
	struct workload self;
	pid_t child;
	int option;

	workload_init(&self, "pagewalk", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		if (option == OPTION_AREA)
			parse_area(&self, &plan, optarg);
		else if (option == OPTION_HOLD)
			plan.hold = optarg;
		else
			plan.quiet = true;
	}
	if (plan.count == 0)
		workload_usage(&self, "--area: give at least one");
	workload_begin(&self);
	plan.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	plan.pagemap_fd = open_or_fail(&self, "/proc/self/pagemap");
	plan.flags_fd = open_or_fail(&self, "/proc/kpageflags");
	plan.count_fd = open_or_fail(&self, "/proc/kpagecount");
	for (unsigned int number = 0; number < plan.count; number++) {
		if (plan.areas[number].kind == KIND_FILE)
			map_file(&self, &plan.areas[number], number, plan.page_bytes);
		else
			map_anonymous(&self, &plan.areas[number], number, plan.page_bytes);
	}
	for (unsigned int number = 0; number < plan.count; number++)
		if (plan.areas[number].kind == KIND_HOLES)
			punch(&self, &plan, &plan.areas[number]);
	child = fork_sleeper(&self, &plan);
	printf("# pid %d child %d page_bytes %zu\n", (int)getpid(), (int)child, plan.page_bytes);
	printf("# round area kind page address pagemap kpageflags kpagecount node\n");
	report(&self, &plan, 0);
	if (plan.hold) {
		hold(&self, &plan);
		report(&self, &plan, 1);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}
