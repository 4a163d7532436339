/* The wire format; the host's side of the same contract is harness/record/frames.py. */
#ifndef AGENT_FRAME_H
#define AGENT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_BYTES	40
#define FRAME_MAX_PAYLOAD_BYTES (8u << 20)

/*
 * Bytes a write to the port. The virtio console driver copies each write into one kmalloc'ed
 * buffer: up to a page it comes from a slab, more would take pages from the very allocator that
 * we watch.
 */
#define PORT_WRITE_BYTES 4096

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_SOURCE = 2,
	FRAME_SAMPLE = 3,
	FRAME_MARK = 4,
	FRAME_ERROR = 5,
	FRAME_END = 6,
	FRAME_ROUND_END = 7,
	FRAME_TRACE_PAGES = 8,
	FRAME_REQUEST = 16,
	FRAME_STDOUT = 17,
	FRAME_STDERR = 18,
	FRAME_EXIT = 19,
	FRAME_FILE = 20,
};

struct frame {
	uint16_t type;
	uint16_t source;
	uint32_t seq;
	uint32_t length;
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t payload_crc;
};

/* What is wrong with a received header; NULL when it is sound. */
const char *frame_decode(const uint8_t header[FRAME_HEADER_BYTES], struct frame *frame);

/* Writes the header of a frame whose payload is at hand; fills in length and payload_crc. */
void frame_encode(uint8_t header[FRAME_HEADER_BYTES], struct frame *frame, const void *payload,
		  size_t length);

/* Sends one frame, waiting for the reader. Returns 0, or -1 with errno. */
int frame_send(int fd, struct frame frame, const void *payload, size_t length);

/* Sends a frame whose payload is formatted text (cut at 1 KiB: for short messages only). */
__attribute__((format(printf, 3, 4))) int frame_send_text(int fd, struct frame frame,
							  const char *format, ...);

#endif
