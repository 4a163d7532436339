/* Requests from the host: bytes in, words out; damage is skipped, named and survived. */
#ifndef AGENT_REQUEST_H
#define AGENT_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "agent/frame.h"

#define REQUEST_MAX_BYTES 65536
#define REQUEST_WORDS_MAX 1024

struct request_reader {
	uint8_t buffer[FRAME_HEADER_BYTES + REQUEST_MAX_BYTES + 1];
	size_t used_bytes;
	/* Payload bytes of a refused frame that are still to come. */
	size_t skip_bytes;
	/* Bytes dropped since the last sound frame. */
	size_t lost_bytes;
};

enum request_kind {
	/* Nothing more to be had from what was received so far. */
	REQUEST_NONE,
	/* A request: words are set. */
	REQUEST_SOUND,
	/* A frame that was refused; why is set, and seq says which. */
	REQUEST_REFUSED,
	/* Bytes that were no frame at all; why is set. */
	REQUEST_NOISE,
};

struct request {
	enum request_kind kind;
	uint32_t seq;
	/* NUL-separated on the wire; NULL-terminated here, inside the reader's buffer until
	 * request_done. */
	char *words[REQUEST_WORDS_MAX + 1];
	int word_count;
	const char *why;
	size_t lost_bytes;
	size_t frame_bytes;
	/* The byte behind the payload, which a NUL replaces while the words are in use. */
	uint8_t behind;
};

/* Where to receive further bytes, and how many fit. */
uint8_t *request_space(struct request_reader *reader, size_t *size);

/* Takes the next request out of what was received. */
void request_next(struct request_reader *reader, struct request *request);

/* Ends the use of a sound request's words. */
void request_done(struct request_reader *reader, const struct request *request);

#endif
