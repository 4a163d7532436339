#include "lib/workload.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/doorbell.h"
#include "lib/io.h"

#define NODE_MAX	  1023
#define SETTLE_DEFAULT_MS 20
#define SETTLE_MAX_MS	  60000

/* linux/mempolicy.h */
#define MPOL_BIND 2

void workload_init(struct workload *self, const char *name, const char *usage)
{
	*self = (struct workload){.name = name,
				  .usage = usage,
				  .seed = 1,
				  .node = -1,
				  .settle_ms = SETTLE_DEFAULT_MS,
				  .doorbell_fd = -1};
}

void workload_usage(const struct workload *self, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "%s: ", self->name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, "\nusage: %s %s " WORKLOAD_USAGE "\n", self->name, self->usage);
	exit(2);
}

void workload_fail(const struct workload *self, const char *format, ...)
{
	const char *reason = strerror(errno);
	va_list arguments;

	fprintf(stderr, "%s: ", self->name);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", reason);
	exit(1);
}

uint64_t workload_number(const struct workload *self, const char *option, const char *text,
			 uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *end != '\0' || *text == '-' || number < min || number > max)
		workload_usage(self, "%s %s: expected a number from %llu to %llu", option, text,
			       (unsigned long long)min, (unsigned long long)max);
	return number;
}

static uint64_t free_bytes(const struct workload *self)
{
	char path[96] = "/proc/meminfo";
	char text[8192];
	const char *field;

	if (self->node >= 0)
		format_text(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo",
			    self->node);
	if (read_text(path, text, sizeof(text)) == -1)
		workload_fail(self, "%s", path);
	field = strstr(text, "MemFree:");
	if (!field)
		workload_usage(self, "%s: has no MemFree: give a size in bytes", path);
	return strtoull(field + strlen("MemFree:"), NULL, 10) << 10;
}

uint64_t workload_size(const struct workload *self, const char *option, const char *text)
{
	static const char suffixes[] = "KMGT";
	char *end;
	unsigned long long number;
	const char *suffix;
	unsigned int shift = 0;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		goto bad;
	if (strcmp(end, "%") == 0) {
		if (number < 1 || number > 100)
			goto bad;
		return free_bytes(self) / 100 * number;
	}
	if (*end != '\0') {
		suffix = strchr(suffixes, *end);
		if (!suffix || end[1] != '\0')
			goto bad;
		shift = 10 * (unsigned int)(suffix - suffixes + 1);
	}
	if (number == 0 || number > (UINT64_MAX >> 1 >> shift))
		goto bad;
	return number << shift;
bad:
	workload_usage(self, "%s %s: expected a size such as 64M, or a part such as 30%%", option,
		       text);
}

size_t workload_memory(const struct workload *self, const char *option, const char *text)
{
	uint64_t bytes = workload_size(self, option, text);

	if (bytes > SIZE_MAX >> 1)
		workload_usage(self, "%s %s: more than a process here can have", option, text);
	return (size_t)bytes;
}

static void check_label(const struct workload *self, const char *label)
{
	if (*label == '\0' || strlen(label) > 64 || strpbrk(label, "/ \n"))
		workload_usage(self, "--label %s: expected a word without slash, of up to 64 bytes",
			       label);
}

int workload_option(struct workload *self, int argc, char **argv, const struct option *options)
{
	int option;

	for (;;) {
		option = getopt_long(argc, argv, "", options, NULL);
		switch (option) {
		case WORKLOAD_SEED:
			self->seed = workload_number(self, "--seed", optarg, 0, UINT64_MAX);
			break;
		case WORKLOAD_NODE:
			self->node = (int)workload_number(self, "--node", optarg, 0, NODE_MAX);
			break;
		case WORKLOAD_LABEL:
			check_label(self, optarg);
			self->label = optarg;
			break;
		case WORKLOAD_SETTLE_MS:
			self->settle_ms = (unsigned int)workload_number(self, "--settle-ms", optarg,
									0, SETTLE_MAX_MS);
			break;
		case WORKLOAD_HELP:
			printf("usage: %s %s " WORKLOAD_USAGE "\n", self->name, self->usage);
			exit(0);
		case '?':
			/* getopt named the argument. */
			workload_usage(self, "bad arguments");
		case -1:
			if (optind < argc)
				workload_usage(self, "unexpected argument %s", argv[optind]);
			return -1;
		default:
			return option;
		}
	}
}

/* "0-1,4" → the set. False when it is empty, as for a node without CPUs. */
static bool parse_cpus(const char *text, cpu_set_t *cpus)
{
	char *end;

	CPU_ZERO(cpus);
	while (*text != '\0') {
		unsigned long first = strtoul(text, &end, 10);
		unsigned long last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < CPU_SETSIZE; first++)
			CPU_SET(first, cpus);
		if (*end != ',')
			break;
		text = end + 1;
	}
	return CPU_COUNT(cpus) > 0;
}

static void bind_to_node(const struct workload *self)
{
	unsigned long nodes[(NODE_MAX + 1) / (8 * sizeof(unsigned long))] = {0};
	const size_t word_bits = 8 * sizeof(unsigned long);
	char path[96];
	char text[4096];
	cpu_set_t cpus;

	format_text(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", self->node);
	if (read_text(path, text, sizeof(text)) == -1)
		workload_fail(self, "--node %d: %s", self->node, path);
	if (parse_cpus(text, &cpus) && sched_setaffinity(0, sizeof(cpus), &cpus))
		workload_fail(self, "--node %d: running on CPUs %s", self->node, text);
	nodes[(size_t)self->node / word_bits] = 1ul << ((size_t)self->node % word_bits);
	/* The kernel takes the number of bits plus one. */
	if (syscall(SYS_set_mempolicy, MPOL_BIND, nodes, NODE_MAX + 2))
		workload_fail(self, "--node %d: binding memory", self->node);
}

void workload_begin(struct workload *self)
{
	if (self->node >= 0)
		bind_to_node(self);
	if (!self->label)
		return;
	self->doorbell_fd = doorbell_connect();
	if (self->doorbell_fd == -1)
		workload_fail(self, "--label %s: no sampler answers at the doorbell", self->label);
}

void workload_mark(struct workload *self, const char *format, ...)
{
	char action[128];
	char label[DOORBELL_LABEL_BYTES];
	va_list arguments;

	if (!self->label)
		return;
	va_start(arguments, format);
	vsnprintf(action, sizeof(action), format, arguments);
	va_end(arguments);
	format_text(label, sizeof(label), "%s/%u/%s", self->label, self->next_mark++, action);
	sleep_ms(self->settle_ms);
	if (doorbell_ring(self->doorbell_fd, label))
		workload_fail(self, "mark %s", label);
}

void workload_report(const struct workload *self)
{
	printf("{\"workload\": \"%s\", \"seed\": %llu, \"node\": ", self->name,
	       (unsigned long long)self->seed);
	if (self->node >= 0)
		printf("%d", self->node);
	else
		printf("null");
	printf(", \"page_size_bytes\": %ld", sysconf(_SC_PAGESIZE));
}
