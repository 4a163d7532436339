#include "agent/sources.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "lib/io.h"

#define NODES_MAX 64

static const char *const thread_files[] = {"stat", "schedstat", "status"};

static void add(struct sources *sources, const char *root, bool sparse, const char *name,
		const char *path)
{
	struct source *source = &sources->list[sources->count];

	if (sources->count == SOURCES_MAX ||
	    !format_text(source->name, sizeof(source->name), "%s", name) ||
	    !format_text(source->path, sizeof(source->path), "%s%s", root, path)) {
		sources->overflow = true;
		return;
	}
	source->sparse = sparse;
	source->id = (uint16_t)++sources->count;
	source->fd = open(source->path, O_RDONLY | O_CLOEXEC);
	source->error = source->fd == -1 ? errno : 0;
}

static int ascending(const void *left, const void *right)
{
	return *(const int *)left - *(const int *)right;
}

/* The N of every entry "<prefix>N" of a directory, ascending. */
static int numbered_entries(const char *directory, const char *prefix, int *numbers, int max)
{
	DIR *entries = opendir(directory);
	size_t prefix_length = strlen(prefix);
	struct dirent *entry;
	int count = 0;

	if (!entries)
		return 0;
	while (count < max && (entry = readdir(entries)))
		if (strncmp(entry->d_name, prefix, prefix_length) == 0 &&
		    isdigit((unsigned char)entry->d_name[prefix_length]))
			numbers[count++] = atoi(entry->d_name + prefix_length);
	closedir(entries);
	qsort(numbers, (size_t)count, sizeof(*numbers), ascending);
	return count;
}

static int list_nodes(const char *root, int *nodes)
{
	char path[SOURCE_PATH_BYTES];

	if (!format_text(path, sizeof(path), "%s/sys/devices/system/node", root))
		return 0;
	return numbered_entries(path, "node", nodes, NODES_MAX);
}

int count_nodes(const char *root)
{
	int nodes[NODES_MAX];
	int count = list_nodes(root, nodes);

	return count > 0 ? count : 1;
}

static void add_node_files(struct sources *sources, const char *root)
{
	static const char *const files[] = {"vmstat", "numastat", "meminfo"};
	int nodes[NODES_MAX];
	int count = list_nodes(root, nodes);

	for (int i = 0; i < count; i++)
		for (size_t file = 0; file < sizeof(files) / sizeof(files[0]); file++) {
			char name[SOURCE_NAME_BYTES];
			char path[SOURCE_PATH_BYTES];

			if (format_text(name, sizeof(name), "node%d/%s", nodes[i], files[file]) &&
			    format_text(path, sizeof(path), "/sys/devices/system/node/%s", name))
				add(sources, root, false, name, path);
		}
}

struct thread {
	int node;
	int pid;
};

static int by_node(const void *left, const void *right)
{
	return ((const struct thread *)left)->node - ((const struct thread *)right)->node;
}

/* Kernel threads named "<kind><node>": their pids are nobody's contract, their names are. */
static int find_threads(const char *root, const char *kind, struct thread *threads)
{
	char path[SOURCE_PATH_BYTES];
	size_t kind_length = strlen(kind);
	struct dirent *entry;
	DIR *processes;
	int count = 0;

	if (!format_text(path, sizeof(path), "%s/proc", root))
		return 0;
	processes = opendir(path);
	if (!processes)
		return 0;
	while (count < NODES_MAX && (entry = readdir(processes))) {
		char comm[64];

		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    !format_text(path, sizeof(path), "%s/proc/%s/comm", root, entry->d_name) ||
		    read_text(path, comm, sizeof(comm)) == -1)
			continue;
		if (strncmp(comm, kind, kind_length) == 0 &&
		    isdigit((unsigned char)comm[kind_length]))
			threads[count++] = (struct thread){.node = atoi(comm + kind_length),
							   .pid = atoi(entry->d_name)};
	}
	closedir(processes);
	qsort(threads, (size_t)count, sizeof(*threads), by_node);
	return count;
}

static void add_threads(struct sources *sources, const char *root, const char *kind)
{
	struct thread threads[NODES_MAX];
	int count = find_threads(root, kind, threads);

	for (int i = 0; i < count; i++)
		for (size_t file = 0; file < sizeof(thread_files) / sizeof(thread_files[0]);
		     file++) {
			char name[SOURCE_NAME_BYTES];
			char path[SOURCE_PATH_BYTES];

			if (format_text(name, sizeof(name), "%s%d/%s", kind, threads[i].node,
					thread_files[file]) &&
			    format_text(path, sizeof(path), "/proc/%d/%s", threads[i].pid,
					thread_files[file]))
				add(sources, root, false, name, path);
		}
	if (count == 0 && sources->count < SOURCES_MAX) {
		struct source *missing = &sources->list[sources->count];

		*missing = (struct source){.fd = -1, .error = ESRCH};
		missing->id = (uint16_t)++sources->count;
		if (!format_text(missing->name, sizeof(missing->name), "%s", kind))
			sources->overflow = true;
	}
}

void sources_open(struct sources *sources, const char *root)
{
	sources->count = 0;
	sources->overflow = false;
	/* The two readings of buddyinfo bracket a zone: where they agree, nothing moved. */
	add(sources, root, false, "buddyinfo", "/proc/buddyinfo");
	add(sources, root, true, "pagetypeinfo", "/proc/pagetypeinfo");
	add(sources, root, false, "zoneinfo", "/proc/zoneinfo");
	add(sources, root, false, "unusable_index", "/sys/kernel/debug/extfrag/unusable_index");
	add(sources, root, false, "extfrag_index", "/sys/kernel/debug/extfrag/extfrag_index");
	add(sources, root, false, "buddyinfo.after", "/proc/buddyinfo");
	add(sources, root, true, "slabinfo", "/proc/slabinfo");
	add(sources, root, false, "vmstat", "/proc/vmstat");
	add(sources, root, false, "meminfo", "/proc/meminfo");
	add_node_files(sources, root);
	add_threads(sources, root, "kswapd");
	add_threads(sources, root, "kcompactd");
	add(sources, root, false, "pressure/memory", "/proc/pressure/memory");
	add(sources, root, false, "pressure/cpu", "/proc/pressure/cpu");
	add(sources, root, false, "pressure/io", "/proc/pressure/io");
}
