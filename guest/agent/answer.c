#include "agent/answer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/frame.h"
#include "lib/io.h"

void agent_give_up(const char *what)
{
	fprintf(stderr, "mmscope: failed: agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

void answer_exit(int port_fd, uint32_t seq, int status)
{
	struct frame frame = {.type = FRAME_EXIT, .seq = seq};

	frame.start_ns = frame.end_ns = monotonic_ns();
	if (frame_send_text(port_fd, frame, "%d", status))
		agent_give_up("writing to the control port");
}

void answer_refuse(int port_fd, uint32_t seq, int status, const char *format, ...)
{
	struct frame frame = {.type = FRAME_ERROR, .seq = seq};
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	frame.start_ns = frame.end_ns = monotonic_ns();
	if (frame_send_text(port_fd, frame, "%s", text))
		agent_give_up("writing to the control port");
	answer_exit(port_fd, seq, status);
}
