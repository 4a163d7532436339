/*
 * What all workloads share: their common options (--seed, --node, --label), where they run, and
 * the marks that they set in the sample stream.
 *
 * Bad arguments end the program with status 2 and a message that names the argument; what fails
 * while it runs, with status 1.
 */
#ifndef LIB_WORKLOAD_H
#define LIB_WORKLOAD_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct workload {
	const char *name;
	const char *usage;
	uint64_t seed;
	/* -1: anywhere. */
	int node;
	/* NULL: no marks are set. */
	const char *label;
	/* Pause before each mark, for what still happens in the background. */
	unsigned int settle_ms;
	int doorbell_fd;
	unsigned int next_mark;
};

/* For the end of a program's own table of options, with room for its codes below 1000. */
enum {
	WORKLOAD_SEED = 1000,
	WORKLOAD_NODE,
	WORKLOAD_LABEL,
	WORKLOAD_SETTLE_MS,
	WORKLOAD_HELP,
};
#define WORKLOAD_OPTIONS                                                                           \
	{"seed", required_argument, NULL, WORKLOAD_SEED},                                          \
		{"node", required_argument, NULL, WORKLOAD_NODE},                                  \
		{"label", required_argument, NULL, WORKLOAD_LABEL},                                \
		{"settle-ms", required_argument, NULL, WORKLOAD_SETTLE_MS},                        \
		{"help", no_argument, NULL, WORKLOAD_HELP}, {0}
#define WORKLOAD_USAGE "[--seed N] [--node N] [--label PHASE] [--settle-ms N]"

void workload_init(struct workload *self, const char *name, const char *usage);

/*
 * The next of the program's own options, or -1 at the end; common ones are taken on the way.
 * Anything left over is an error.
 */
int workload_option(struct workload *self, int argc, char **argv, const struct option *options);

/* Ends the program with status 2. */
__attribute__((format(printf, 2, 3))) _Noreturn void workload_usage(const struct workload *self,
								    const char *format, ...);

/* Ends the program with status 1, naming errno. */
__attribute__((format(printf, 2, 3))) _Noreturn void workload_fail(const struct workload *self,
								   const char *format, ...);

/* A whole number from min to max, or the program ends as for a bad argument. */
uint64_t workload_number(const struct workload *self, const char *option, const char *text,
			 uint64_t min, uint64_t max);

/* A size in bytes (4096, 64M), or in percent (30%) of the memory now free on the node. */
uint64_t workload_size(const struct workload *self, const char *option, const char *text);

/* The same for memory that is to be mapped: a 32-bit process cannot have any size. */
size_t workload_memory(const struct workload *self, const char *option, const char *text);

/* Binds memory and CPUs to the node, and connects to the sampler when marks are to be set. */
void workload_begin(struct workload *self);

/*
 * Waits settle_ms, then sets the mark "<label>/<index>/<action>", counting the index from 0, and
 * returns when its round is written.
 */
__attribute__((format(printf, 2, 3))) void workload_mark(struct workload *self, const char *format,
							 ...);

/* Begins the one line of JSON that a workload prints, with the fields common to all. */
void workload_report(const struct workload *self);

#endif
