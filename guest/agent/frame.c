#include "agent/frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/crc32.h"
#include "lib/io.h"

static const uint8_t magic[4] = {'M', 'M', 'S', '1'};

static void put(uint8_t *out, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

const char *frame_decode(const uint8_t header[FRAME_HEADER_BYTES], struct frame *frame)
{
	if (memcmp(header, magic, sizeof(magic)) != 0)
		return "no frame begins here";
	if (get(header + 36, 4) != crc32_of(header, 36))
		return "header CRC does not match";
	frame->type = (uint16_t)get(header + 4, 2);
	frame->source = (uint16_t)get(header + 6, 2);
	frame->seq = (uint32_t)get(header + 8, 4);
	frame->length = (uint32_t)get(header + 12, 4);
	frame->start_ns = get(header + 16, 8);
	frame->end_ns = get(header + 24, 8);
	frame->payload_crc = (uint32_t)get(header + 32, 4);
	return NULL;
}

void frame_encode(uint8_t header[FRAME_HEADER_BYTES], struct frame *frame, const void *payload,
		  size_t length)
{
	frame->length = (uint32_t)length;
	frame->payload_crc = crc32_of(payload, length);
	memcpy(header, magic, sizeof(magic));
	put(header + 4, frame->type, 2);
	put(header + 6, frame->source, 2);
	put(header + 8, frame->seq, 4);
	put(header + 12, frame->length, 4);
	put(header + 16, frame->start_ns, 8);
	put(header + 24, frame->end_ns, 8);
	put(header + 32, frame->payload_crc, 4);
	put(header + 36, crc32_of(header, 36), 4);
}

int frame_send(int fd, struct frame frame, const void *payload, size_t length)
{
	uint8_t small[FRAME_HEADER_BYTES + 1024];

	frame_encode(small, &frame, payload, length);
	if (length <= sizeof(small) - FRAME_HEADER_BYTES) {
		if (length > 0)
			memcpy(small + FRAME_HEADER_BYTES, payload, length);
		return write_all(fd, small, FRAME_HEADER_BYTES + length, PORT_WRITE_BYTES);
	}
	if (write_all(fd, small, FRAME_HEADER_BYTES, 0))
		return -1;
	return write_all(fd, payload, length, PORT_WRITE_BYTES);
}

int frame_send_text(int fd, struct frame frame, const char *format, ...)
{
	char text[1024];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length < 0)
		length = 0;
	if ((size_t)length >= sizeof(text))
		length = sizeof(text) - 1;
	return frame_send(fd, frame, text, (size_t)length);
}
