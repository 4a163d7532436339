#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/answer.h"
#include "agent/files.h"
#include "agent/frame.h"
#include "agent/hello.h"
#include "agent/job.h"
#include "agent/port.h"
#include "agent/request.h"
#include "agent/sampler_process.h"
#include "lib/doorbell.h"
#include "lib/io.h"

#define MARKS_MAX	  16
#define STREAM_WAIT_MS	  2000
#define HOST_AWAY_POLL_MS 50
#define PERIOD_MAX_MS	  3600000

/* A mark that waits for its round. */
struct mark {
	uint32_t seq;
	/* -1: free. */
	int fd;
};

struct control {
	const struct control_options *options;
	int port_fd;
	int request_fd;
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
				answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
					      "exec %s: %s", request->words[1], strerror(errno));
			return;
		}
	answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
		      "exec %s: %d programs run already", request->words[1], JOBS_MAX);
}

static void on_kill(struct control *self, const struct request *request)
{
	long seq;
	long signal_number;

	if (!parse_number(request->words[1], UINT32_MAX, &seq) ||
	    !parse_number(request->words[2], SIGRTMAX, &signal_number)) {
		answer_refuse(self->port_fd, request->seq, STATUS_USAGE,
			      "kill %s %s: expected two numbers", request->words[1],
			      request->words[2]);
		return;
	}
	for (int i = 0; i < JOBS_MAX; i++) {
		const struct job *job = &self->jobs[i];

		if (job->pid == 0 || job->ended || job->seq != (uint32_t)seq)
			continue;
		if (kill(-job->pid, (int)signal_number))
			answer_refuse(self->port_fd, request->seq, STATUS_FAILED, "kill %ld: %s",
				      seq, strerror(errno));
		else
			answer_exit(self->port_fd, request->seq, STATUS_DONE);
		return;
	}
	answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
		      "kill %ld: no such request runs a program", seq);
}

static void on_read(struct control *self, const struct request *request)
{
	for (int i = 1; i < request->word_count; i++)
		if (files_send(self->port_fd, request->seq, self->options->root, request->words[i]))
			agent_give_up("writing to the control port");
	answer_exit(self->port_fd, request->seq, STATUS_DONE);
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
			answer_refuse(self->port_fd, request->seq, STATUS_FAILED, "mark %s: %s",
				      label,
				      errno == ECONNREFUSED ? "no sampler runs" : strerror(errno));
		} else if (doorbell_send(mark->fd, label)) {
			answer_refuse(self->port_fd, request->seq, STATUS_FAILED, "mark %s: %s",
				      label, strerror(errno));
			close(mark->fd);
			mark->fd = -1;
		}
		return;
	}
	answer_refuse(self->port_fd, request->seq, STATUS_FAILED, "mark %s: %d marks wait already",
		      label, MARKS_MAX);
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
		answer_exit(self->port_fd, mark->seq, STATUS_DONE);
	else
		answer_refuse(self->port_fd, mark->seq, STATUS_FAILED,
			      "mark: the sampler ended before it took the round");
}

static void on_sample_start(struct control *self, const struct request *request)
{
	struct sampler_process *sampler = &self->sampler;
	long period_ms;
	long sparse_every;

	if (!parse_number(request->words[1], PERIOD_MAX_MS, &period_ms) ||
	    !parse_number(request->words[2], INT32_MAX, &sparse_every)) {
		answer_refuse(
			self->port_fd, request->seq, STATUS_USAGE,
			"sample-start %s %s: expected a period of 0 to %d ms, and every how many "
			"rounds the sparse files are read",
			request->words[1], request->words[2], PERIOD_MAX_MS);
		return;
	}
	if (sampler->pid != 0) {
		answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
			      "sample-start: a sampler runs already");
		return;
	}
	if (self->stream_fd == -1)
		self->stream_fd = port_open(self->options->root, STREAM_PORT, STREAM_WAIT_MS);
	if (self->stream_fd == -1) {
		answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
			      "sample-start: port %s: %s", STREAM_PORT, strerror(errno));
		return;
	}
	if (sampler_process_start(sampler, self->stream_fd, self->options->root,
				  (unsigned int)period_ms, (unsigned int)sparse_every))
		answer_refuse(self->port_fd, request->seq, STATUS_FAILED, "sample-start: %s",
			      strerror(errno));
	sampler->start_seq = request->seq;
}

static void on_sampler_ready(struct control *self)
{
	struct sampler_process *sampler = &self->sampler;

	if (sampler_process_ready(sampler))
		answer_exit(self->port_fd, sampler->start_seq, STATUS_DONE);
	else
		answer_refuse(self->port_fd, sampler->start_seq, STATUS_FAILED,
			      "sample-start: the sampler did not start; the console says why");
}

static void on_sample_stop(struct control *self, const struct request *request)
{
	if (self->sampler.pid == 0 || self->sampler.stopping) {
		answer_refuse(self->port_fd, request->seq, STATUS_FAILED,
			      "sample-stop: no sampler runs");
		return;
	}
	self->sampler.stop_seq = request->seq;
	sampler_process_stop(&self->sampler);
}

static void on_sampler_end(struct control *self, int wait_status)
{
	struct sampler_process *sampler = &self->sampler;
	int status =
		WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
	bool was_asked = sampler->stopping;

	if (sampler->ready_fd != -1)
		on_sampler_ready(self);
	sampler_process_stop(sampler);
	sampler->pid = 0;
	if (was_asked && !self->power_off)
		answer_exit(self->port_fd, sampler->stop_seq, status);
	else if (!was_asked)
		(void)frame_send_text(self->port_fd, (struct frame){.type = FRAME_ERROR},
				      "the sampler ended by itself with status %d", status);
}

static void on_power_off(struct control *self, const struct request *request)
{
	self->power_off = true;
	self->power_off_seq = request->seq;
	if (self->sampler.pid != 0)
		sampler_process_stop(&self->sampler);
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
			answer_refuse(self->port_fd, request->seq, STATUS_USAGE, "usage: %s",
				      verbs[i].usage);
		else
			verbs[i].handle(self, request);
		return;
	}
	answer_refuse(self->port_fd, request->seq, STATUS_USAGE, "no such request: %s",
		      request->words[0]);
}

static void on_port(struct control *self)
{
	struct request_reader *reader = &self->requests;
	size_t space;
	uint8_t *room = request_space(reader, &space);
	ssize_t got = read(self->request_fd, room, space);

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
			answer_refuse(self->port_fd, request.seq, STATUS_USAGE, "%s", request.why);
			break;
		case REQUEST_NOISE:
			if (frame_send_text(self->port_fd, (struct frame){.type = FRAME_ERROR},
					    "skipped %zu %s", request.lost_bytes, request.why))
				agent_give_up("writing to the control port");
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
				agent_give_up("writing to the control port");
			if (job->output_fd[which] != -1)
				close(job->output_fd[which]);
		}
		answer_exit(self->port_fd, job->seq, job->status);
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

	watched[0] = (struct pollfd){.fd = was_away ? -1 : self->request_fd, .events = POLLIN};
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
		agent_give_up("waiting");
	}
	if (was_away)
		self->host_away = false;
	for (int i = 0; i < 2 * JOBS_MAX; i++)
		if (job_events[i].revents &&
		    job_forward(&self->jobs[i / 2], i % 2, self->port_fd) < 0)
			agent_give_up("writing to the control port");
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
		sampler_process_stop(&self->sampler);
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
	self->request_fd = options->request_fd == -1 ? options->control_fd : options->request_fd;
	self->stream_fd = options->stream_fd;
	/* What we run must not keep our ports open. */
	fcntl(self->port_fd, F_SETFD, FD_CLOEXEC);
	if (self->stream_fd != -1)
		fcntl(self->stream_fd, F_SETFD, FD_CLOEXEC);
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
		agent_give_up("signalfd");
	if (hello_send(self->port_fd, options->root))
		agent_give_up("writing to the control port");
	while (!self->closed && !(self->power_off && self->sampler.pid == 0))
		serve(self);
	end_everything(self);
	if (self->power_off) {
		sync();
		answer_exit(self->port_fd, self->power_off_seq, STATUS_DONE);
		if (options->may_power_off && reboot(RB_POWER_OFF))
			agent_give_up("powering off");
	}
	return 0;
}
