#include "agent/sampler.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent/frame.h"
#include "agent/hello.h"
#include "agent/round.h"
#include "agent/sources.h"
#include "lib/doorbell.h"
#include "lib/io.h"

#define CLIENTS_MAX 16

enum { WATCH_STOP, WATCH_TIMER, WATCH_DOORBELL, WATCH_CLIENTS };

struct sampler {
	const struct sampler_options *options;
	struct sources sources;
	struct arena arena;
	struct pollfd watched[WATCH_CLIENTS + CLIENTS_MAX];
	int client_count;
	uint32_t next_round;
	uint64_t timed_rounds;
	uint64_t missed_ticks;
};

/* Static: the working set is there, and locked, before the first round. */
static struct sampler sampler;

static int fail(const char *what)
{
	fprintf(stderr, "mmscope: failed: sampler: %s: %s\n", what, strerror(errno));
	return 1;
}

static int take_round(struct sampler *self, const char *label, bool sparse)
{
	struct round round = {.seq = self->next_round++,
			      .label = label,
			      .label_ns = monotonic_ns(),
			      .sparse = sparse};

	if (round_take(&self->arena, &self->sources, &round))
		return -1;
	return write_all(self->options->stream_fd, self->arena.data, self->arena.used_bytes,
			 PORT_WRITE_BYTES);
}

static int announce(struct sampler *self)
{
	int stream_fd = self->options->stream_fd;

	if (hello_send(stream_fd, self->options->root))
		return -1;
	for (int i = 0; i < self->sources.count; i++) {
		const struct source *source = &self->sources.list[i];
		struct frame frame = {.type = FRAME_SOURCE, .source = source->id};
		int sent;

		if (source->fd == -1) {
			frame.type = FRAME_ERROR;
			frame.source = 0;
			sent = frame_send_text(stream_fd, frame, "%s: %s", source->name,
					       strerror(source->error));
		} else {
			sent = frame_send_text(stream_fd, frame, "%s", source->name);
		}
		if (sent)
			return -1;
	}
	if (self->sources.overflow)
		return frame_send_text(stream_fd, (struct frame){.type = FRAME_ERROR},
				       "more than %d sources: the rest is left out", SOURCES_MAX);
	return 0;
}

static int start_timer(unsigned int period_ms)
{
	struct itimerspec period = {
		.it_interval = {.tv_sec = period_ms / 1000,
				.tv_nsec = (long)(period_ms % 1000) * 1000000},
		/* The first tick comes at once. */
		.it_value = {.tv_nsec = 1},
	};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd == -1 || timerfd_settime(fd, 0, &period, NULL))
		return -1;
	return fd;
}

static int prepare(struct sampler *self)
{
	struct pollfd *watched = self->watched;

	sources_open(&self->sources, self->options->root);
	if (arena_prepare(&self->arena, &self->sources))
		return fail("reading the first round");
	/* A sampler that waits for a CPU behind the load it watches misses its ticks. */
	if (setpriority(PRIO_PROCESS, 0, -20) && errno != EACCES && errno != EPERM)
		return fail("setting its priority");
	if (mlockall(MCL_CURRENT | MCL_FUTURE) && errno != EPERM && errno != ENOMEM)
		return fail("locking its memory");
	for (int i = 0; i < WATCH_CLIENTS + CLIENTS_MAX; i++)
		watched[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	watched[WATCH_STOP].fd = self->options->stop_fd;
	watched[WATCH_DOORBELL].fd = doorbell_listen();
	if (watched[WATCH_DOORBELL].fd == -1)
		return fail("listening on its doorbell");
	if (announce(self))
		return fail("writing to the stream");
	if (write_all(self->options->ready_fd, "", 1, 0))
		return fail("reporting that it runs");
	close(self->options->ready_fd);
	if (self->options->period_ms) {
		watched[WATCH_TIMER].fd = start_timer(self->options->period_ms);
		if (watched[WATCH_TIMER].fd == -1)
			return fail("starting its timer");
	}
	return 0;
}

static int on_timer(struct sampler *self)
{
	unsigned int every = self->options->sparse_every;
	uint64_t ticks;

	if (read(self->watched[WATCH_TIMER].fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	self->missed_ticks += ticks - 1;
	return take_round(self, NULL, every && self->timed_rounds++ % every == 0);
}

static void on_connect(struct sampler *self)
{
	int fd = accept4(self->watched[WATCH_DOORBELL].fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd == -1)
		return;
	for (int i = WATCH_CLIENTS; i < WATCH_CLIENTS + CLIENTS_MAX; i++)
		if (self->watched[i].fd == -1) {
			self->watched[i].fd = fd;
			return;
		}
	/* One too many: its ring fails with a closed connection, which it reports. */
	close(fd);
}

static int on_client(struct sampler *self, struct pollfd *client)
{
	char label[DOORBELL_LABEL_BYTES + 1];
	ssize_t length = recv(client->fd, label, DOORBELL_LABEL_BYTES, MSG_DONTWAIT);

	if (length == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (length <= 0) {
		close(client->fd);
		client->fd = -1;
		return 0;
	}
	label[length] = '\0';
	if (take_round(self, label, true))
		return -1;
	/* A client that went away meanwhile is noticed at its next event. */
	(void)!send(client->fd, "", 1, MSG_NOSIGNAL);
	return 0;
}

static int finish(struct sampler *self)
{
	struct frame end = {.type = FRAME_END,
			    .seq = self->next_round,
			    .start_ns = monotonic_ns(),
			    .end_ns = monotonic_ns()};

	return frame_send_text(self->options->stream_fd, end,
			       "rounds=%u\nmissed_ticks=%llu\nbuffer_grown=%u\n", self->next_round,
			       (unsigned long long)self->missed_ticks, self->arena.grown);
}

int sampler_main(const struct sampler_options *options)
{
	struct sampler *self = &sampler;

	self->options = options;
	if (prepare(self))
		return 1;
	for (;;) {
		struct pollfd *watched = self->watched;

		if (poll(watched, WATCH_CLIENTS + CLIENTS_MAX, -1) == -1) {
			if (errno == EINTR)
				continue;
			return fail("waiting");
		}
		/* Marks first: whoever rang is waiting. */
		for (int i = WATCH_CLIENTS; i < WATCH_CLIENTS + CLIENTS_MAX; i++)
			if (watched[i].fd != -1 && watched[i].revents &&
			    on_client(self, &watched[i]))
				return fail("a marked round");
		if (watched[WATCH_DOORBELL].revents)
			on_connect(self);
		if (watched[WATCH_STOP].revents)
			return finish(self) ? fail("writing to the stream") : 0;
		if (watched[WATCH_TIMER].revents && on_timer(self))
			return fail("a timed round");
	}
}
