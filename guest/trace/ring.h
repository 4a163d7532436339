/*
 * The per-CPU rings of a tracefs instance, read raw.
 *
 * The kernel hands over a sub-buffer (one page by default) at a time. One that is full is swapped
 * out of the ring whole, without copying; of one that is still being written, what is there so
 * far is copied, and the rest comes with a later read (kernel/trace/ring_buffer.c,
 * ring_buffer_read_page, 6.1). Either way a read gives a sub-buffer with its own header, padded
 * with zeros.
 */
#ifndef TRACE_RING_H
#define TRACE_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RINGS_MAX 256

struct ring {
	uint16_t cpu;
	int fd;
	uint64_t subbuffers;
};

struct rings {
	struct ring list[RINGS_MAX];
	int count;
	size_t subbuffer_bytes;
	/* For messages: which file failed. */
	char failed[256];
};

/*
 * Opens trace_pipe_raw of every CPU that the instance has, without waiting for data. Returns 0,
 * or -1 with errno and rings->failed.
 */
int rings_open(struct rings *rings, const char *instance);

/*
 * Reads sub-buffers one after the other until the ring has nothing more or room is full. Returns
 * the bytes read (whole sub-buffers; 0: nothing there), or -1 with errno and rings->failed.
 */
ssize_t ring_read(struct rings *rings, struct ring *ring, uint8_t *room, size_t room_bytes);

#endif
