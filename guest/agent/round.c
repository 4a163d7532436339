#include "agent/round.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/frame.h"
#include "lib/io.h"

#define ARENA_SPARE_BYTES (256u << 10)

/* Where the frame of one source lies in the arena, to be encoded when all reading is done. */
struct reading {
	size_t offset;
	size_t length;
	uint64_t start_ns;
	uint64_t end_ns;
	int error;
};

static int arena_resize(struct arena *arena, size_t size_bytes)
{
	void *data;

	if (arena->data)
		data = mremap(arena->data, arena->size_bytes, size_bytes, MREMAP_MAYMOVE);
	else
		data = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (data == MAP_FAILED)
		return -1;
	arena->data = data;
	arena->size_bytes = size_bytes;
	return 0;
}

static int arena_reserve(struct arena *arena, size_t bytes)
{
	if (arena->size_bytes - arena->used_bytes >= bytes)
		return 0;
	arena->grown++;
	return arena_resize(arena, 2 * arena->size_bytes + bytes);
}

/*
 * Reads a file from its beginning to its end behind a gap for the header. The descriptor stays
 * open from round to round: reading at offset 0 makes the kernel format the file anew.
 */
static int read_source(struct arena *arena, const struct source *source, struct reading *reading)
{
	reading->offset = arena->used_bytes;
	reading->length = 0;
	reading->error = 0;
	if (arena_reserve(arena, FRAME_HEADER_BYTES + 1))
		return -1;
	arena->used_bytes += FRAME_HEADER_BYTES;
	reading->start_ns = monotonic_ns();
	for (;;) {
		ssize_t got;

		/* Room for at least one more byte, or a full buffer would look like the end. */
		if (arena_reserve(arena, 4096))
			return -1;
		got = pread(source->fd, arena->data + arena->used_bytes,
			    arena->size_bytes - arena->used_bytes, (off_t)reading->length);
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			reading->error = errno;
		if (got <= 0)
			break;
		arena->used_bytes += (size_t)got;
		reading->length += (size_t)got;
		if (reading->length > FRAME_MAX_PAYLOAD_BYTES) {
			reading->error = EFBIG;
			break;
		}
	}
	reading->end_ns = monotonic_ns();
	if (reading->error) {
		char text[128];

		/* What was read of it so far is not the file. */
		snprintf(text, sizeof(text), "%s: %s", source->name, strerror(reading->error));
		reading->length = strlen(text);
		arena->used_bytes = reading->offset + FRAME_HEADER_BYTES;
		if (arena_reserve(arena, reading->length))
			return -1;
		memcpy(arena->data + arena->used_bytes, text, reading->length);
		arena->used_bytes += reading->length;
	}
	return 0;
}

static void encode_at(struct arena *arena, size_t offset, struct frame frame, size_t length)
{
	uint8_t *header = arena->data + offset;

	frame_encode(header, &frame, header + FRAME_HEADER_BYTES, length);
}

int round_take(struct arena *arena, const struct sources *sources, const struct round *round)
{
	static struct reading readings[SOURCES_MAX];
	size_t label_length = round->label ? strlen(round->label) : 0;
	uint64_t start_ns;
	uint64_t end_ns;

	arena->used_bytes = 0;
	if (round->label) {
		if (arena_reserve(arena, FRAME_HEADER_BYTES + label_length))
			return -1;
		memcpy(arena->data + FRAME_HEADER_BYTES, round->label, label_length);
		arena->used_bytes = FRAME_HEADER_BYTES + label_length;
	}
	start_ns = monotonic_ns();
	for (int i = 0; i < sources->count; i++) {
		const struct source *source = &sources->list[i];

		if (source->fd != -1 && (round->sparse || !source->sparse))
			if (read_source(arena, source, &readings[i]))
				return -1;
	}
	end_ns = monotonic_ns();
	if (arena_reserve(arena, FRAME_HEADER_BYTES))
		return -1;

	/* Nothing is read any more: now it may take time. */
	if (round->label)
		encode_at(arena, 0,
			  (struct frame){.type = FRAME_MARK,
					 .seq = round->seq,
					 .start_ns = round->label_ns,
					 .end_ns = start_ns},
			  label_length);
	for (int i = 0; i < sources->count; i++) {
		const struct source *source = &sources->list[i];
		const struct reading *reading = &readings[i];

		if (source->fd != -1 && (round->sparse || !source->sparse))
			encode_at(
				arena, reading->offset,
				(struct frame){.type = reading->error ? FRAME_ERROR : FRAME_SAMPLE,
					       .source = source->id,
					       .seq = round->seq,
					       .start_ns = reading->start_ns,
					       .end_ns = reading->end_ns},
				reading->length);
	}
	encode_at(arena, arena->used_bytes,
		  (struct frame){.type = FRAME_ROUND_END,
				 .seq = round->seq,
				 .start_ns = start_ns,
				 .end_ns = end_ns},
		  0);
	arena->used_bytes += FRAME_HEADER_BYTES;
	return 0;
}

int arena_prepare(struct arena *arena, const struct sources *sources)
{
	const struct round trial = {.sparse = true};

	*arena = (struct arena){0};
	if (arena_resize(arena, ARENA_SPARE_BYTES) || round_take(arena, sources, &trial))
		return -1;
	/* Files grow as the machine works: twice the size now, and some to spare. */
	if (arena_resize(arena, 2 * arena->used_bytes + ARENA_SPARE_BYTES))
		return -1;
	memset(arena->data, 0, arena->size_bytes);
	arena->grown = 0;
	return 0;
}
