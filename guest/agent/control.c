#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/files.h"
#include "agent/frame.h"
#include "agent/hello.h"
#include "agent/job.h"
#include "agent/port.h"
#include "agent/request.h"
#include "agent/sampler.h"
#include "lib/doorbell.h"
#include "lib/io.h"

#define MARKS_MAX	  16
#define STREAM_WAIT_MS	  2000
#define HOST_AWAY_POLL_MS 50
#define PERIOD_MAX_MS	  3600000

/* Exit statuses of requests, as of programs: 1 it failed, 2 it was not understood. */
enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* A mark that waits for its round. */
struct mark {
	uint32_t seq;
	/* -1: free. */
	int fd;
};

struct sampler_process {
	/* 0: none runs. */
	pid_t pid;
	/* Reports the start; -1 once it has. */
	int ready_fd;
	/* Closing it stops the sampler. */
	int stop_fd;
	uint32_t start_seq;
	uint32_t stop_seq;
	bool stopping;
};

struct control {
	const struct control_options *options;
	int port_fd;
	int stream_fd;
	int signal_fd;
	bool port_is_device;
	bool host_away;
	bool power_off;
	uint32_t power_off_seq;
	bool closed;
	struct sampler_process sampler;
	struct job jobs[JOBS_MAX];
	struct mark marks[MARKS_MAX];
	struct request_reader requests;
};

/* Too large for a stack. */
static struct control control;

_Noreturn static void give_up(const char *what)
{
	fprintf(stderr, "mmscope: failed: agent: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void answer_exit(struct control *self, uint32_t seq, int status)
{
	struct frame frame = {.type = FRAME_EXIT, .seq = seq};

	frame.start_ns = frame.end_ns = monotonic_ns();
	if (frame_send_text(self->port_fd, frame, "%d", status))
		give_up("writing to the control port");
}

/* An ERROR frame and the EXIT that ends the request. */
__attribute__((format(printf, 4, 5))) static void refuse(struct control *self, uint32_t seq,
							 int status, const char *format, ...)
{
	struct frame frame = {.type = FRAME_ERROR, .seq = seq};
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	frame.start_ns = frame.end_ns = monotonic_ns();
	if (frame_send_text(self->port_fd, frame, "%s", text))
		give_up("writing to the control port");
	answer_exit(self, seq, status);
}

static bool parse_number(const char *word, long max, long *number)
{
	char *end;

	errno = 0;
	*number = strtol(word, &end, 10);
	return errno == 0 && end != word && *end == '\0' && *number >= 0 && *number <= max;
}

static void on_exec(struct control *self, const struct request *request)
{
	for (int i = 0; i < JOBS_MAX; i++)
		if (self->jobs[i].pid == 0) {
			if (job_start(&self->jobs[i], request->seq, request->words + 1))
				refuse(self, request->seq, STATUS_FAILED, "exec %s: %s",
				       request->words[1], strerror(errno));
			return;
		}
	refuse(self, request->seq, STATUS_FAILED, "exec %s: %d programs run already",
	       request->words[1], JOBS_MAX);
}

static void on_kill(struct control *self, const struct request *request)
{
	long seq;
	long signal_number;

	if (!parse_number(request->words[1], UINT32_MAX, &seq) ||
	    !parse_number(request->words[2], SIGRTMAX, &signal_number)) {
		refuse(self, request->seq, STATUS_USAGE, "kill %s %s: expected two numbers",
		       request->words[1], request->words[2]);
		return;
	}
	for (int i = 0; i < JOBS_MAX; i++) {
		const struct job *job = &self->jobs[i];

		if (job->pid == 0 || job->ended || job->seq != (uint32_t)seq)
			continue;
		if (kill(-job->pid, (int)signal_number))
			refuse(self, request->seq, STATUS_FAILED, "kill %ld: %s", seq,
			       strerror(errno));
		else
			answer_exit(self, request->seq, STATUS_DONE);
		return;
	}
	refuse(self, request->seq, STATUS_FAILED, "kill %ld: no such request runs a program", seq);
}

static void on_read(struct control *self, const struct request *request)
{
	for (int i = 1; i < request->word_count; i++)
		if (files_send(self->port_fd, request->seq, self->options->root, request->words[i]))
			give_up("writing to the control port");
	answer_exit(self, request->seq, STATUS_DONE);
}

static void on_mark(struct control *self, const struct request *request)
{
	const char *label = request->words[1];

	for (int i = 0; i < MARKS_MAX; i++) {
		struct mark *mark = &self->marks[i];

		if (mark->fd != -1)
			continue;
		mark->seq = request->seq;
		mark->fd = doorbell_connect();
		if (mark->fd == -1) {
			refuse(self, request->seq, STATUS_FAILED, "mark %s: %s", label,
			       errno == ECONNREFUSED ? "no sampler runs" : strerror(errno));
		} else if (doorbell_send(mark->fd, label)) {
			refuse(self, request->seq, STATUS_FAILED, "mark %s: %s", label,
			       strerror(errno));
			close(mark->fd);
			mark->fd = -1;
		}
		return;
	}
	refuse(self, request->seq, STATUS_FAILED, "mark %s: %d marks wait already", label,
	       MARKS_MAX);
}

static void on_mark_answer(struct control *self, struct mark *mark)
{
	char answer;
	ssize_t got = recv(mark->fd, &answer, 1, MSG_DONTWAIT);

	if (got == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	close(mark->fd);
	mark->fd = -1;
	if (got == 1)
		answer_exit(self, mark->seq, STATUS_DONE);
	else
		refuse(self, mark->seq, STATUS_FAILED,
		       "mark: the sampler ended before it took the round");
}

_Noreturn static void become_sampler(struct control *self, struct sampler_options *options)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(self->port_fd);
	close(self->signal_fd);
	for (int i = 0; i < JOBS_MAX; i++)
		if (self->jobs[i].pid != 0) {
			close(self->jobs[i].output_fd[0]);
			close(self->jobs[i].output_fd[1]);
		}
	for (int i = 0; i < MARKS_MAX; i++)
		if (self->marks[i].fd != -1)
			close(self->marks[i].fd);
	_exit(sampler_main(options));
}

static void on_sample_start(struct control *self, const struct request *request)
{
	struct sampler_process *sampler = &self->sampler;
	long period_ms;
	long sparse_every;
	int ready[2];
	int stop[2];

	if (!parse_number(request->words[1], PERIOD_MAX_MS, &period_ms) ||
	    !parse_number(request->words[2], INT32_MAX, &sparse_every)) {
		refuse(self, request->seq, STATUS_USAGE,
		       "sample-start %s %s: expected a period of 0 to %d ms, and every how many "
		       "rounds the sparse files are read",
		       request->words[1], request->words[2], PERIOD_MAX_MS);
		return;
	}
	if (sampler->pid != 0) {
		refuse(self, request->seq, STATUS_FAILED, "sample-start: a sampler runs already");
		return;
	}
	if (self->stream_fd == -1)
		self->stream_fd = port_open(self->options->root, STREAM_PORT, STREAM_WAIT_MS);
	if (self->stream_fd == -1) {
		refuse(self, request->seq, STATUS_FAILED, "sample-start: port %s: %s", STREAM_PORT,
		       strerror(errno));
		return;
	}
	if (pipe2(ready, O_CLOEXEC) || pipe2(stop, O_CLOEXEC))
		give_up("pipe");
	sampler->pid = fork();
	if (sampler->pid == -1)
		give_up("fork");
	if (sampler->pid == 0) {
		struct sampler_options options = {
			.stream_fd = self->stream_fd,
			.stop_fd = stop[0],
			.ready_fd = ready[1],
			.root = self->options->root,
			.period_ms = (unsigned int)period_ms,
			.sparse_every = (unsigned int)sparse_every,
		};

		close(ready[0]);
		close(stop[1]);
		become_sampler(self, &options);
	}
	close(ready[1]);
	close(stop[0]);
	sampler->ready_fd = ready[0];
	sampler->stop_fd = stop[1];
	sampler->start_seq = request->seq;
	sampler->stopping = false;
}

static void on_sampler_ready(struct control *self)
{
	struct sampler_process *sampler = &self->sampler;
	char byte;
	bool ready = read(sampler->ready_fd, &byte, 1) == 1;

	close(sampler->ready_fd);
	sampler->ready_fd = -1;
	if (ready)
		answer_exit(self, sampler->start_seq, STATUS_DONE);
	else
		refuse(self, sampler->start_seq, STATUS_FAILED,
		       "sample-start: the sampler did not start; the console says why");
}

static void stop_sampler(struct sampler_process *sampler)
{
	if (!sampler->stopping)
		close(sampler->stop_fd);
	sampler->stopping = true;
}

static void on_sample_stop(struct control *self, const struct request *request)
{
	if (self->sampler.pid == 0 || self->sampler.stopping) {
		refuse(self, request->seq, STATUS_FAILED, "sample-stop: no sampler runs");
		return;
	}
	self->sampler.stop_seq = request->seq;
	stop_sampler(&self->sampler);
}

static void on_sampler_end(struct control *self, int wait_status)
{
	struct sampler_process *sampler = &self->sampler;
	int status =
		WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
	bool was_asked = sampler->stopping;

	if (sampler->ready_fd != -1)
		on_sampler_ready(self);
	stop_sampler(sampler);
	sampler->pid = 0;
	if (was_asked && !self->power_off)
		answer_exit(self, sampler->stop_seq, status);
	else if (!was_asked)
		(void)frame_send_text(self->port_fd, (struct frame){.type = FRAME_ERROR},
				      "the sampler ended by itself with status %d", status);
}

static void on_power_off(struct control *self, const struct request *request)
{
	self->power_off = true;
	self->power_off_seq = request->seq;
	if (self->sampler.pid != 0)
		stop_sampler(&self->sampler);
}

struct verb {
	const char *name;
	int words_min;
	int words_max;
	const char *usage;
	void (*handle)(struct control *self, const struct request *request);
};

static const struct verb verbs[] = {
	{"exec", 2, REQUEST_WORDS_MAX, "exec PROGRAM [ARGUMENT]...", on_exec},
	{"kill", 3, 3, "kill SEQ SIGNUM", on_kill},
	{"read", 2, REQUEST_WORDS_MAX, "read PATTERN...", on_read},
	{"mark", 2, 2, "mark LABEL", on_mark},
	{"sample-start", 3, 3, "sample-start PERIOD_MS SPARSE_EVERY", on_sample_start},
	{"sample-stop", 1, 1, "sample-stop", on_sample_stop},
	{"poweroff", 1, 1, "poweroff", on_power_off},
};

static void dispatch(struct control *self, const struct request *request)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(request->words[0], verbs[i].name) != 0)
			continue;
		if (request->word_count < verbs[i].words_min ||
		    request->word_count > verbs[i].words_max)
			refuse(self, request->seq, STATUS_USAGE, "usage: %s", verbs[i].usage);
		else
			verbs[i].handle(self, request);
		return;
	}
	refuse(self, request->seq, STATUS_USAGE, "no such request: %s", request->words[0]);
}

static void on_port(struct control *self)
{
	struct request_reader *reader = &self->requests;
	size_t space;
	uint8_t *room = request_space(reader, &space);
	ssize_t got = read(self->port_fd, room, space);

	if (got == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		/* On a virtio port the host may come back; a socket's other end is gone. */
		self->host_away = self->port_is_device;
		self->closed = !self->port_is_device;
		return;
	}
	reader->used_bytes += (size_t)got;
	for (;;) {
		struct request request;

		request_next(reader, &request);
		switch (request.kind) {
		case REQUEST_NONE:
			return;
		case REQUEST_SOUND:
			dispatch(self, &request);
			request_done(reader, &request);
			break;
		case REQUEST_REFUSED:
			refuse(self, request.seq, STATUS_USAGE, "%s", request.why);
			break;
		case REQUEST_NOISE:
			if (frame_send_text(self->port_fd, (struct frame){.type = FRAME_ERROR},
					    "skipped %zu %s", request.lost_bytes, request.why))
				give_up("writing to the control port");
			break;
		}
	}
}

static void on_signal(struct control *self)
{
	struct signalfd_siginfo information;
	int wait_status;
	pid_t pid;

	while (read(self->signal_fd, &information, sizeof(information)) > 0)
		;
	while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
		if (pid == self->sampler.pid)
			on_sampler_end(self, wait_status);
		for (int i = 0; i < JOBS_MAX; i++)
			if (self->jobs[i].pid == pid)
				job_end(&self->jobs[i], wait_status);
	}
}

/*
 * A job is over when its process has ended and what it wrote is passed on. What is left of its
 * process group may keep the pipes open for ever, and is not waited for.
 */
static void finish_jobs(struct control *self)
{
	for (int i = 0; i < JOBS_MAX; i++) {
		struct job *job = &self->jobs[i];

		if (job->pid == 0 || !job->ended)
			continue;
		for (int which = 0; which < 2; which++) {
			int more;

			while ((more = job_forward(job, which, self->port_fd)) == 1)
				;
			if (more == -1)
				give_up("writing to the control port");
			if (job->output_fd[which] != -1)
				close(job->output_fd[which]);
		}
		answer_exit(self, job->seq, job->status);
		job->pid = 0;
	}
}

/* Waits for events and serves them. */
static void serve(struct control *self)
{
	struct pollfd watched[3 + 2 * JOBS_MAX + MARKS_MAX];
	struct pollfd *job_events = watched + 3;
	struct pollfd *mark_events = job_events + 2 * JOBS_MAX;
	bool was_away = self->host_away;

	watched[0] = (struct pollfd){.fd = was_away ? -1 : self->port_fd, .events = POLLIN};
	watched[1] = (struct pollfd){.fd = self->signal_fd, .events = POLLIN};
	watched[2] = (struct pollfd){.fd = self->sampler.ready_fd, .events = POLLIN};
	for (int i = 0; i < 2 * JOBS_MAX; i++) {
		const struct job *job = &self->jobs[i / 2];

		job_events[i] = (struct pollfd){.fd = job->pid ? job->output_fd[i % 2] : -1,
						.events = POLLIN};
	}
	for (int i = 0; i < MARKS_MAX; i++)
		mark_events[i] = (struct pollfd){.fd = self->marks[i].fd, .events = POLLIN};

	if (poll(watched, sizeof(watched) / sizeof(watched[0]),
		 was_away ? HOST_AWAY_POLL_MS : -1) == -1) {
		if (errno == EINTR)
			return;
		give_up("waiting");
	}
	if (was_away)
		self->host_away = false;
	for (int i = 0; i < 2 * JOBS_MAX; i++)
		if (job_events[i].revents &&
		    job_forward(&self->jobs[i / 2], i % 2, self->port_fd) < 0)
			give_up("writing to the control port");
	for (int i = 0; i < MARKS_MAX; i++)
		if (mark_events[i].revents)
			on_mark_answer(self, &self->marks[i]);
	if (watched[2].revents)
		on_sampler_ready(self);
	if (watched[1].revents)
		on_signal(self);
	if (watched[0].revents)
		on_port(self);
	finish_jobs(self);
}

static void end_everything(struct control *self)
{
	for (int i = 0; i < JOBS_MAX; i++)
		if (self->jobs[i].pid != 0 && !self->jobs[i].ended)
			kill(-self->jobs[i].pid, SIGKILL);
	if (self->sampler.pid != 0) {
		stop_sampler(&self->sampler);
		waitpid(self->sampler.pid, NULL, 0);
	}
}

int control_main(const struct control_options *options)
{
	struct control *self = &control;
	struct stat port;
	sigset_t children;

	self->options = options;
	self->port_fd = options->control_fd;
	self->stream_fd = options->stream_fd;
	self->port_is_device = fstat(self->port_fd, &port) == 0 && S_ISCHR(port.st_mode);
	self->sampler.ready_fd = -1;
	for (int i = 0; i < MARKS_MAX; i++)
		self->marks[i].fd = -1;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	self->signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (self->signal_fd == -1)
		give_up("signalfd");
	if (hello_send(self->port_fd, options->root))
		give_up("writing to the control port");
	while (!self->closed && !(self->power_off && self->sampler.pid == 0))
		serve(self);
	end_everything(self);
	if (self->power_off) {
		sync();
		answer_exit(self, self->power_off_seq, STATUS_DONE);
		if (options->may_power_off && reboot(RB_POWER_OFF))
			give_up("powering off");
	}
	return 0;
}
