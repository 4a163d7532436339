/*
 * slabchurn: makes kernel objects of several kinds in a seeded mix and frees them in another
 * seeded order, so that slabs fill up, empty in holes, and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define OBJECTS_MAX 10000000
#define ROUNDS_MAX  1000000

static const char usage[] = "--objects N [--rounds N] [--dir DIRECTORY]";

enum kind { KIND_FILE, KIND_DIRECTORY, KIND_EVENT, KIND_PIPE, KIND_SOCKET, KINDS };

static const char *const kind_names[KINDS] = {"files", "directories", "events", "pipes", "sockets"};

struct object {
	enum kind kind;
	int fd[2];
};

struct plan {
	uint32_t objects;
	uint64_t rounds;
	/* A directory of our own below --dir, and where we are while we run. */
	char directory[256];
	struct object *list;
	uint32_t *order;
	unsigned long long made[KINDS];
};

/* Made last, removed whatever happens. */
static char remove_at_exit[256];

static void remove_directory(void)
{
	if (*remove_at_exit && chdir("/") == 0)
		rmdir(remove_at_exit);
}

static void object_name(char *name, size_t size, uint32_t index)
{
	/* Longer than what fits into a dentry: the name is an object of its own. */
	format_text(name, size, "an-object-with-a-name-of-its-own-%08u", index);
}

static int make(const struct plan *plan, uint32_t index)
{
	struct object *object = &plan->list[index];
	char name[64];
	int fd;

	object_name(name, sizeof(name), index);
	object->fd[0] = object->fd[1] = -1;
	switch (object->kind) {
	case KIND_FILE:
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		return fd == -1 ? -1 : close(fd);
	case KIND_DIRECTORY:
		return mkdir(name, 0700);
	case KIND_EVENT:
		object->fd[0] = eventfd(0, EFD_CLOEXEC);
		return object->fd[0] == -1 ? -1 : 0;
	case KIND_PIPE:
		return pipe2(object->fd, O_CLOEXEC);
	case KIND_SOCKET:
		return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, object->fd);
	case KINDS:
		break;
	}
	errno = EINVAL;
	return -1;
}

static int discard(const struct plan *plan, uint32_t index)
{
	struct object *object = &plan->list[index];
	char name[64];

	object_name(name, sizeof(name), index);
	if (object->kind == KIND_FILE)
		return unlink(name);
	if (object->kind == KIND_DIRECTORY)
		return rmdir(name);
	for (int i = 0; i < 2; i++)
		if (object->fd[i] != -1 && close(object->fd[i]))
			return -1;
	return 0;
}

static void prepare(const struct workload *self, struct plan *plan, const char *parent)
{
	/* Two descriptors an object at most, and a few of our own. */
	rlim_t descriptors = 2 * (rlim_t)plan->objects + 64;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		workload_fail(self, "getrlimit");
	if (limit.rlim_cur < descriptors) {
		limit.rlim_cur = descriptors;
		if (limit.rlim_max < descriptors)
			limit.rlim_max = descriptors;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			workload_fail(self, "--objects %u: %llu open files", plan->objects,
				      (unsigned long long)descriptors);
	}
	if (!format_text(plan->directory, sizeof(plan->directory), "%s/slabchurn.XXXXXX", parent))
		workload_usage(self, "--dir %s: too long", parent);
	if (!mkdtemp(plan->directory) || chdir(plan->directory))
		workload_fail(self, "--dir %s", parent);
	memcpy(remove_at_exit, plan->directory, sizeof(remove_at_exit));
	atexit(remove_directory);
	plan->list = calloc(plan->objects, sizeof(*plan->list));
	plan->order = calloc(plan->objects, sizeof(*plan->order));
	if (!plan->list || !plan->order)
		workload_fail(self, "--objects %u", plan->objects);
}

static void run_round(struct workload *self, struct plan *plan, struct random *random)
{
	for (uint32_t i = 0; i < plan->objects; i++) {
		enum kind kind = (enum kind)random_below(random, KINDS);

		plan->list[i].kind = kind;
		plan->order[i] = i;
		if (make(plan, i)) {
			int error = errno;

			for (uint32_t made = 0; made < i; made++)
				discard(plan, made);
			errno = error;
			workload_fail(self, "object %u (%s)", i, kind_names[kind]);
		}
		plan->made[kind]++;
	}
	workload_mark(self, "make/%u", plan->objects);
	random_shuffle(random, plan->order, plan->objects);
	for (uint32_t i = 0; i < plan->objects; i++) {
		if (discard(plan, plan->order[i]))
			workload_fail(self, "freeing object %u", plan->order[i]);
		/* Half empty is where slabs are in most pieces. */
		if (i + 1 == plan->objects / 2)
			workload_mark(self, "free/%u", i + 1);
	}
	workload_mark(self, "free/%u", plan->objects);
}

int main(int argc, char **argv)
{
	enum { OPTION_OBJECTS = 1, OPTION_ROUNDS, OPTION_DIR };
	static const struct option options[] = {
		{"objects", required_argument, NULL, OPTION_OBJECTS},
		{"rounds", required_argument, NULL, OPTION_ROUNDS},
		{"dir", required_argument, NULL, OPTION_DIR},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.rounds = 1};
	const char *parent = "/tmp";
	struct random random;
	struct workload self;
	int option;

	workload_init(&self, "slabchurn", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_OBJECTS:
			plan.objects = (uint32_t)workload_number(&self, "--objects", optarg, 1,
								 OBJECTS_MAX);
			break;
		case OPTION_ROUNDS:
			plan.rounds = workload_number(&self, "--rounds", optarg, 1, ROUNDS_MAX);
			break;
		case OPTION_DIR:
			parent = optarg;
			break;
		}
	}
	if (plan.objects == 0)
		workload_usage(&self, "--objects is needed");
	workload_begin(&self);
	prepare(&self, &plan, parent);
	random = (struct random){.state = self.seed};
	workload_mark(&self, "before");
	for (uint64_t round = 0; round < plan.rounds; round++)
		run_round(&self, &plan, &random);
	workload_report(&self);
	printf(", \"objects\": %u, \"rounds\": %llu", plan.objects,
	       (unsigned long long)plan.rounds);
	for (int kind = 0; kind < KINDS; kind++)
		printf(", \"%s\": %llu", kind_names[kind], plan.made[kind]);
	printf("}\n");
	return 0;
}
