#include "trace/ring.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/io.h"

#define PATH_BYTES	    256
#define SUBBUFFER_MIN_BYTES 1024u
#define SUBBUFFER_MAX_BYTES (1u << 20)

static bool in_instance(struct rings *rings, const char *instance, const char *name)
{
	if (format_text(rings->failed, sizeof(rings->failed), "%s/%s", instance, name))
		return true;
	errno = ENAMETOOLONG;
	return false;
}

static bool is_sound_size(size_t size)
{
	return size >= SUBBUFFER_MIN_BYTES && size <= SUBBUFFER_MAX_BYTES &&
	       (size & (size - 1)) == 0;
}

/*
 * Since 6.8 an instance tells, and may choose, the size of its sub-buffers. Before that, the
 * description of the page header (only the top directory has it, two levels up) says where its
 * data begins and how much of it there is: "field: char data; offset:16; size:4080; signed:1;".
 */
static int find_subbuffer_size(struct rings *rings, const char *instance)
{
	static const char *const headers[] = {"events/header_page", "../../events/header_page"};
	char text[1024];

	if (!in_instance(rings, instance, "buffer_subbuf_size_kb"))
		return -1;
	if (read_text(rings->failed, text, sizeof(text)) != -1) {
		rings->subbuffer_bytes = (size_t)strtoul(text, NULL, 10) << 10;
		goto check;
	}
	if (errno != ENOENT)
		return -1;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		const char *field;
		const char *offset;
		const char *size;

		if (!in_instance(rings, instance, headers[i]))
			return -1;
		if (read_text(rings->failed, text, sizeof(text)) == -1)
			continue;
		field = strstr(text, "char data;");
		offset = field ? strstr(field, "offset:") : NULL;
		size = field ? strstr(field, "size:") : NULL;
		if (offset && size)
			rings->subbuffer_bytes =
				(size_t)(strtoul(offset + strlen("offset:"), NULL, 10) +
					 strtoul(size + strlen("size:"), NULL, 10));
		goto check;
	}
	return -1;
check:
	if (is_sound_size(rings->subbuffer_bytes))
		return 0;
	errno = EINVAL;
	return -1;
}

static int ascending(const void *left, const void *right)
{
	return (int)((const struct ring *)left)->cpu - (int)((const struct ring *)right)->cpu;
}

static int find_cpus(struct rings *rings, const char *instance)
{
	struct dirent *entry;
	DIR *cpus;

	if (!in_instance(rings, instance, "per_cpu"))
		return -1;
	cpus = opendir(rings->failed);
	if (!cpus)
		return -1;
	while (rings->count < RINGS_MAX && (entry = readdir(cpus)))
		if (strncmp(entry->d_name, "cpu", 3) == 0 &&
		    isdigit((unsigned char)entry->d_name[3]))
			rings->list[rings->count++].cpu = (uint16_t)atoi(entry->d_name + 3);
	closedir(cpus);
	if (rings->count == 0) {
		errno = ENOENT;
		return -1;
	}
	qsort(rings->list, (size_t)rings->count, sizeof(rings->list[0]), ascending);
	return 0;
}

int rings_open(struct rings *rings, const char *instance)
{
	rings->count = 0;
	if (find_subbuffer_size(rings, instance) || find_cpus(rings, instance))
		return -1;
	for (int i = 0; i < rings->count; i++) {
		struct ring *ring = &rings->list[i];
		char name[PATH_BYTES / 4];

		if (!format_text(name, sizeof(name), "per_cpu/cpu%u/trace_pipe_raw", ring->cpu) ||
		    !in_instance(rings, instance, name))
			return -1;
		ring->subbuffers = 0;
		ring->fd = open(rings->failed, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (ring->fd == -1)
			return -1;
	}
	return 0;
}

ssize_t ring_read(struct rings *rings, struct ring *ring, uint8_t *room, size_t room_bytes)
{
	size_t used_bytes = 0;

	while (room_bytes - used_bytes >= rings->subbuffer_bytes) {
		ssize_t got = read(ring->fd, room + used_bytes, rings->subbuffer_bytes);

		if (got == -1 && errno == EINTR)
			continue;
		if (got == 0 || (got == -1 && errno == EAGAIN))
			break;
		if (got != -1 && (size_t)got != rings->subbuffer_bytes) {
			got = -1;
			errno = EIO;
		}
		if (got == -1) {
			int error = errno;

			(void)format_text(rings->failed, sizeof(rings->failed),
					  "per_cpu/cpu%u/trace_pipe_raw", ring->cpu);
			errno = error;
			return -1;
		}
		used_bytes += (size_t)got;
		ring->subbuffers++;
	}
	return (ssize_t)used_bytes;
}
