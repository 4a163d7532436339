/*
 * rebind: takes the driver of a virtio disk away and gives it back, again and again, while
 * anonymous memory fills what is free. Each time the driver gives its rings back to DMA memory and
 * takes new ones; where that memory is contiguous memory (CMA), pages in it move to make room.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/disk.h"
#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define TIMES_MAX    1000000
#define DMA_SERIAL   "mmscope-dma"
#define DRIVER_PATH  "/sys/bus/virtio/drivers/virtio_blk"
#define DISK_WAIT_MS 5000

static const char usage[] = "--times N [--bytes SIZE|PERCENT%]";

struct plan {
	const char *size_text;
	uint64_t times;
	uint64_t pages;
	size_t page_bytes;
	char *memory;
	/* The device's name on the virtio bus: virtio3. */
	char device[32];
};

static void find_device(const struct workload *self, struct plan *plan)
{
	char disk[64];
	char path[96];
	char target[256];
	const char *name;
	ssize_t length;

	if (!disk_find(DMA_SERIAL, DISK_WAIT_MS, disk, sizeof(disk)))
		workload_fail(self, "no disk with the serial %s", DMA_SERIAL);
	format_text(path, sizeof(path), "/sys/block/%s/device", strrchr(disk, '/') + 1);
	length = readlink(path, target, sizeof(target) - 1);
	if (length == -1)
		workload_fail(self, "%s", path);
	target[length] = '\0';
	name = strrchr(target, '/');
	if (!format_text(plan->device, sizeof(plan->device), "%s", name ? name + 1 : target))
		workload_usage(self, "%s: a name too long", path);
}

static void touch(const struct workload *self, struct plan *plan)
{
	size_t bytes = plan->pages * plan->page_bytes;

	if (bytes == 0)
		return;
	plan->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (plan->memory == MAP_FAILED)
		workload_fail(self, "--bytes %s", plan->size_text);
	if (madvise(plan->memory, bytes, MADV_NOHUGEPAGE) && errno != EINVAL)
		workload_fail(self, "--bytes %s: no huge pages", plan->size_text);
	for (uint64_t page = 0; page < plan->pages; page++)
		*(volatile char *)(plan->memory + page * plan->page_bytes) = 1;
}

/* Some of the memory goes and comes, so that the next time other pages are in the way. */
static void stir(const struct workload *self, const struct plan *plan, struct random *random)
{
	for (uint64_t i = 0; i < plan->pages / 16; i++) {
		uint64_t page = random_below(random, plan->pages);

		if (madvise(plan->memory + page * plan->page_bytes, plan->page_bytes,
			    MADV_DONTNEED))
			workload_fail(self, "giving back a page");
	}
	for (uint64_t page = 0; page < plan->pages; page++)
		*(volatile char *)(plan->memory + page * plan->page_bytes) = 1;
}

static void run(struct workload *self, struct plan *plan)
{
	struct random random = {.state = self->seed};

	touch(self, plan);
	workload_mark(self, "touch/%llu", (unsigned long long)plan->pages);
	for (uint64_t number = 0; number < plan->times; number++) {
		if (write_text(DRIVER_PATH "/unbind", plan->device))
			workload_fail(self, "taking the driver from %s", plan->device);
		if (write_text(DRIVER_PATH "/bind", plan->device))
			workload_fail(self, "giving the driver to %s", plan->device);
		stir(self, plan, &random);
	}
	workload_mark(self, "rebind/%llu", (unsigned long long)plan->times);
	if (plan->pages > 0)
		munmap(plan->memory, plan->pages * plan->page_bytes);
	workload_mark(self, "release");
}

int main(int argc, char **argv)
{
	enum { OPTION_TIMES = 1, OPTION_BYTES };
	static const struct option options[] = {
		{"times", required_argument, NULL, OPTION_TIMES},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		WORKLOAD_OPTIONS,
	};
	struct plan plan = {.page_bytes = (size_t)sysconf(_SC_PAGESIZE)};
	struct workload self;
	int option;

	workload_init(&self, "rebind", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_TIMES:
			plan.times = workload_number(&self, "--times", optarg, 1, TIMES_MAX);
			break;
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		}
	}
	if (plan.times == 0)
		workload_usage(&self, "--times is needed");
	workload_begin(&self);
	find_device(&self, &plan);
	if (plan.size_text)
		plan.pages = workload_memory(&self, "--bytes", plan.size_text) / plan.page_bytes;
	workload_mark(&self, "before");
	run(&self, &plan);
	workload_report(&self);
	printf(", \"device\": \"%s\", \"times\": %llu, \"pages\": %llu}\n", plan.device,
	       (unsigned long long)plan.times, (unsigned long long)plan.pages);
	return 0;
}
