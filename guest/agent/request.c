#include "agent/request.h"

#include <string.h>

#include "agent/crc32.h"

uint8_t *request_space(struct request_reader *reader, size_t *size)
{
	/* One byte stays free for the NUL behind the last word. */
	*size = sizeof(reader->buffer) - 1 - reader->used_bytes;
	return reader->buffer + reader->used_bytes;
}

static void drop(struct request_reader *reader, size_t bytes)
{
	reader->used_bytes -= bytes;
	memmove(reader->buffer, reader->buffer + bytes, reader->used_bytes);
}

/* n NULs separate n + 1 words, any of which may be empty. */
static void split_words(struct request *request, char *text, size_t length)
{
	const char *end = text + length;

	while (text <= end) {
		if (request->word_count == REQUEST_WORDS_MAX) {
			request->kind = REQUEST_REFUSED;
			request->why = "request has more than 1024 words";
			return;
		}
		request->words[request->word_count++] = text;
		text += strlen(text) + 1;
	}
	request->words[request->word_count] = NULL;
}

static void take_frame(struct request_reader *reader, struct request *request,
		       const struct frame *frame)
{
	uint8_t *payload = reader->buffer + FRAME_HEADER_BYTES;

	request->kind = REQUEST_REFUSED;
	request->frame_bytes = FRAME_HEADER_BYTES + frame->length;
	request->behind = payload[frame->length];
	if (crc32_of(payload, frame->length) != frame->payload_crc) {
		request->why = "payload CRC does not match";
	} else if (frame->type != FRAME_REQUEST) {
		request->why = "only REQUEST frames are understood here";
	} else if (frame->length == 0) {
		request->why = "request is empty";
	} else {
		request->kind = REQUEST_SOUND;
		payload[frame->length] = '\0';
		split_words(request, (char *)payload, frame->length);
	}
	if (request->kind == REQUEST_REFUSED)
		request_done(reader, request);
}

void request_next(struct request_reader *reader, struct request *request)
{
	*request = (struct request){.kind = REQUEST_NONE};
	for (;;) {
		struct frame frame;

		/* NULs between frames mean nothing: see AgentSession, which sends them to a serial
		 * port that keeps what it has received until more comes. */
		while (reader->skip_bytes == 0 && reader->lost_bytes == 0 &&
		       reader->used_bytes > 0 && reader->buffer[0] == 0)
			drop(reader, 1);
		if (reader->skip_bytes > 0) {
			size_t now = reader->skip_bytes < reader->used_bytes ? reader->skip_bytes
									     : reader->used_bytes;

			drop(reader, now);
			reader->skip_bytes -= now;
		}
		if (reader->used_bytes < FRAME_HEADER_BYTES)
			return;
		if (frame_decode(reader->buffer, &frame)) {
			/* Out of step: look for the next header byte by byte. */
			uint8_t *next = memchr(reader->buffer + 1, 'M', reader->used_bytes - 1);
			size_t lost = next ? (size_t)(next - reader->buffer) : reader->used_bytes;

			drop(reader, lost);
			reader->lost_bytes += lost;
			continue;
		}
		if (reader->lost_bytes > 0) {
			request->kind = REQUEST_NOISE;
			request->why = "bytes that are no frame";
			request->lost_bytes = reader->lost_bytes;
			reader->lost_bytes = 0;
			return;
		}
		request->seq = frame.seq;
		if (frame.length > REQUEST_MAX_BYTES) {
			request->kind = REQUEST_REFUSED;
			request->why = "request is over 65536 bytes";
			reader->skip_bytes = FRAME_HEADER_BYTES + frame.length;
			return;
		}
		if (reader->used_bytes < FRAME_HEADER_BYTES + frame.length)
			return;
		take_frame(reader, request, &frame);
		return;
	}
}

void request_done(struct request_reader *reader, const struct request *request)
{
	reader->buffer[request->frame_bytes] = request->behind;
	drop(reader, request->frame_bytes);
}
