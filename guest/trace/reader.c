#include "trace/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/frame.h"
#include "agent/port.h"
#include "lib/io.h"
#include "trace/ring.h"

#define PORT_WAIT_MS	   2000
#define BATCH_BYTES	   (1u << 20)
#define LINE_BYTES	   512
#define LAST_PASSES	   3
#define LAST_PASS_PAUSE_MS 2

struct reader {
	const struct reader_options *options;
	int port_fd;
	bool port_is_device;
	bool host_away;
	int marker_fd;
	int tracing_on_fd;
	struct rings rings;
	uint32_t next_seq;
	uint64_t passes;
	/* Most sub-buffers that one pass over all rings found: how far behind it ever was. */
	uint64_t backlog_max;
	bool stop;
	char line[LINE_BYTES];
	size_t line_bytes;
	/* A frame's header and its payload, sent without copying. */
	uint8_t batch[FRAME_HEADER_BYTES + BATCH_BYTES];
};

/* Static: all of it is there, and locked, before the first event. */
static struct reader reader;

static volatile sig_atomic_t was_terminated;

static void on_terminate(int number)
{
	(void)number;
	was_terminated = 1;
}

_Noreturn static void fail(const struct reader *self, const char *what)
{
	int error = errno;

	/* Nobody reads the rings any more. */
	if (self->tracing_on_fd != -1)
		(void)!pwrite(self->tracing_on_fd, "0", 1, 0);
	/* On the port too: the host waits there. */
	if (self->port_fd != -1)
		(void)frame_send_text(self->port_fd, (struct frame){.type = FRAME_ERROR}, "%s: %s",
				      what, strerror(error));
	fprintf(stderr, "mmscope-trace: %s: %s\n", what, strerror(error));
	exit(1);
}

static int open_control(struct reader *self, const char *name, int flags)
{
	char path[256];
	int fd;

	if (!format_text(path, sizeof(path), "%s/%s", self->options->instance, name)) {
		errno = ENAMETOOLONG;
		fail(self, name);
	}
	fd = open(path, flags | O_CLOEXEC);
	if (fd == -1)
		fail(self, path);
	return fd;
}

static void set_recording(struct reader *self, bool on)
{
	if (pwrite(self->tracing_on_fd, on ? "1" : "0", 1, 0) != 1)
		fail(self, "tracing_on");
}

/* One write is one event. */
static void put_mark(struct reader *self, const char *text)
{
	ssize_t length = (ssize_t)strlen(text);

	if (write(self->marker_fd, text, (size_t)length) != length)
		fail(self, "trace_marker");
}

/* Puts it into the trace, and tells the host that it is there. */
static void put_window_mark(struct reader *self, const char *which)
{
	struct frame frame = {.type = FRAME_MARK, .start_ns = monotonic_ns()};
	char text[LINE_BYTES];

	if (!format_text(text, sizeof(text), "mmscope %s %s", which, self->options->label)) {
		errno = ENAMETOOLONG;
		fail(self, "--label");
	}
	put_mark(self, text);
	frame.end_ns = monotonic_ns();
	if (frame_send_text(self->port_fd, frame, "%s", text))
		fail(self, "writing to the port");
}

/*
 * A real-time task wakes at once however many others run, and may go deeper into the memory
 * reserves, so that the load cannot starve it of the driver's small buffers (mm/page_alloc.c,
 * gfp_to_alloc_flags). It sleeps almost always. The OOM killer is to take what is watched.
 */
static void take_precedence(const struct reader *self)
{
	const struct sched_param priority = {.sched_priority = 1};

	if (write_text("/proc/self/oom_score_adj", "-1000"))
		fail(self, "/proc/self/oom_score_adj");
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fail(self, "setting its priority");
}

static void prepare(struct reader *self)
{
	struct sigaction terminate = {.sa_handler = on_terminate};
	struct stat port;
	sigset_t blocked;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGTERM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	sigaction(SIGTERM, &terminate, NULL);
	if (self->port_fd == -1) {
		/* In a guest. */
		self->port_fd = port_open("", TRACE_PORT, PORT_WAIT_MS);
		if (self->port_fd == -1)
			fail(self, "port " TRACE_PORT);
		take_precedence(self);
	}
	self->port_is_device = fstat(self->port_fd, &port) == 0 && S_ISCHR(port.st_mode);
	if (rings_open(&self->rings, self->options->instance))
		fail(self, self->rings.failed);
	self->marker_fd = open_control(self, "trace_marker", O_WRONLY);
	self->tracing_on_fd = open_control(self, "tracing_on", O_WRONLY);
	memset(self->batch, 0, sizeof(self->batch));
	if (mlockall(MCL_CURRENT | MCL_FUTURE) && errno != EPERM && errno != ENOMEM)
		fail(self, "locking its memory");
}

static void announce(struct reader *self)
{
	struct frame frame = {.type = FRAME_HELLO, .start_ns = monotonic_ns()};

	frame.end_ns = frame.start_ns;
	if (frame_send_text(self->port_fd, frame,
			    "trace=%s\nwindow=%s\nsubbuffer_bytes=%zu\ncpus=%d\n", MMSCOPE_VERSION,
			    self->options->label, self->rings.subbuffer_bytes, self->rings.count))
		fail(self, "writing to the port");
}

/* Sends what one ring holds, in as many frames as it takes; the number of sub-buffers. */
static uint64_t drain(struct reader *self, struct ring *ring)
{
	uint8_t *payload = self->batch + FRAME_HEADER_BYTES;
	uint64_t before = ring->subbuffers;

	for (;;) {
		struct frame frame = {.type = FRAME_TRACE_PAGES,
				      .source = ring->cpu,
				      .seq = self->next_seq,
				      .start_ns = monotonic_ns()};
		ssize_t got = ring_read(&self->rings, ring, payload, BATCH_BYTES);

		if (got == -1)
			fail(self, self->rings.failed);
		if (got == 0)
			return ring->subbuffers - before;
		frame.end_ns = monotonic_ns();
		frame_encode(self->batch, &frame, payload, (size_t)got);
		if (write_all(self->port_fd, self->batch, FRAME_HEADER_BYTES + (size_t)got,
			      PORT_WRITE_BYTES))
			fail(self, "writing to the port");
		self->next_seq++;
		if ((size_t)got + self->rings.subbuffer_bytes <= BATCH_BYTES)
			return ring->subbuffers - before;
	}
}

static void drain_all(struct reader *self)
{
	uint64_t found = 0;

	for (int i = 0; i < self->rings.count; i++)
		found += drain(self, &self->rings.list[i]);
	if (found > self->backlog_max)
		self->backlog_max = found;
	self->passes++;
}

/* Cuts a line after its first word; the rest, or NULL where there is none. */
static char *cut(char *line)
{
	char *space = strchr(line, ' ');

	if (!space)
		return NULL;
	*space = '\0';
	return space + 1;
}

/* "stop WINDOW", "mark WINDOW TEXT". */
static void obey(struct reader *self, char *line)
{
	struct frame frame = {.type = FRAME_MARK, .start_ns = monotonic_ns()};
	char *label = cut(line);
	char *text = label ? cut(label) : NULL;
	bool stop = label && strcmp(line, "stop") == 0;
	bool mark = text && strcmp(line, "mark") == 0;
	int sent;

	if ((stop || mark) && strcmp(label, self->options->label) != 0)
		return; /* Left on the port for a reader that is gone. */
	if (stop) {
		self->stop = true;
		return;
	}
	if (mark) {
		put_mark(self, text);
		frame.end_ns = monotonic_ns();
		sent = frame_send_text(self->port_fd, frame, "%s", text);
	} else {
		frame.type = FRAME_ERROR;
		sent = frame_send_text(self->port_fd, frame, "no such request: %s", line);
	}
	if (sent)
		fail(self, "writing to the port");
}

static void on_port(struct reader *self)
{
	ssize_t got = read(self->port_fd, self->line + self->line_bytes,
			   sizeof(self->line) - self->line_bytes);
	char *end;

	if (got == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		/* On a virtio port the host may come back; a socket's other end is gone. */
		self->host_away = self->port_is_device;
		self->stop = !self->port_is_device;
		return;
	}
	self->line_bytes += (size_t)got;
	while ((end = memchr(self->line, '\n', self->line_bytes))) {
		size_t used = (size_t)(end - self->line) + 1;

		*end = '\0';
		obey(self, self->line);
		self->line_bytes -= used;
		memmove(self->line, end + 1, self->line_bytes);
	}
	if (self->line_bytes == sizeof(self->line))
		self->line_bytes = 0;
}

/* Sleeps for a period, or until the host has something to say. */
static void wait_period(struct reader *self)
{
	struct pollfd watched = {.fd = self->host_away ? -1 : self->port_fd, .events = POLLIN};
	const struct timespec period = {.tv_sec = self->options->period_ms / 1000,
					.tv_nsec =
						(long)(self->options->period_ms % 1000) * 1000000};
	sigset_t none;

	sigemptyset(&none);
	self->host_away = false;
	if (ppoll(&watched, 1, &period, &none) == -1) {
		if (errno != EINTR)
			fail(self, "waiting");
	} else if (watched.revents) {
		on_port(self);
	}
	self->stop |= was_terminated;
}

/* An event that was being written when recording ended becomes readable a moment later. */
static void drain_to_the_end(struct reader *self)
{
	for (int pass = 0; pass < LAST_PASSES; pass++) {
		if (pass > 0)
			sleep_ms(LAST_PASS_PAUSE_MS);
		drain_all(self);
	}
}

static void finish(struct reader *self)
{
	struct frame end = {.type = FRAME_END, .seq = self->next_seq, .start_ns = monotonic_ns()};
	char text[1024];
	size_t used = 0;

	end.end_ns = end.start_ns;
	for (int i = 0; i < self->rings.count; i++) {
		const struct ring *ring = &self->rings.list[i];
		int length = snprintf(text + used, sizeof(text) - used, "cpu%u=%llu\n", ring->cpu,
				      (unsigned long long)ring->subbuffers);

		/* Too many CPUs to list: the host does without, the frames are numbered. */
		if (length < 0 || used + (size_t)length > sizeof(text) - 128)
			break;
		used += (size_t)length;
	}
	snprintf(text + used, sizeof(text) - used, "passes=%llu\nbacklog_max=%llu\n",
		 (unsigned long long)self->passes, (unsigned long long)self->backlog_max);
	if (frame_send_text(self->port_fd, end, "%s", text))
		fail(self, "writing to the port");
}

int reader_main(const struct reader_options *options)
{
	struct reader *self = &reader;

	self->options = options;
	self->port_fd = options->port_fd;
	self->tracing_on_fd = -1;
	prepare(self);
	announce(self);
	/* The first read of a ring makes the kernel take the page that it swaps with the ring's. */
	drain_all(self);
	set_recording(self, true);
	put_window_mark(self, "begin");
	while (!self->stop) {
		drain_all(self);
		wait_period(self);
	}
	put_window_mark(self, "end");
	set_recording(self, false);
	drain_to_the_end(self);
	finish(self);
	return 0;
}
