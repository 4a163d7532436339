#include "agent/sampler_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "agent/sampler.h"

#define DESCRIPTORS_MAX 1024

/*
 * Leaves behind all that the control process has open: a pipe or a port that lives on here would
 * never be seen to close.
 */
_Noreturn static void become_sampler(const struct sampler_options *options)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 3; fd < DESCRIPTORS_MAX; fd++)
		if (fd != options->stream_fd && fd != options->stop_fd && fd != options->ready_fd)
			close(fd);
	_exit(sampler_main(options));
}

int sampler_process_start(struct sampler_process *sampler, int stream_fd, const char *root,
			  unsigned int period_ms, unsigned int sparse_every)
{
	int ready[2];
	int stop[2];
	int error;

	if (pipe2(ready, O_CLOEXEC))
		return -1;
	if (pipe2(stop, O_CLOEXEC)) {
		error = errno;
		goto close_ready;
	}
	sampler->pid = fork();
	if (sampler->pid == -1) {
		error = errno;
		goto close_stop;
	}
	if (sampler->pid == 0) {
		const struct sampler_options options = {
			.stream_fd = stream_fd,
			.stop_fd = stop[0],
			.ready_fd = ready[1],
			.root = root,
			.period_ms = period_ms,
			.sparse_every = sparse_every,
		};

		become_sampler(&options);
	}
	close(ready[1]);
	close(stop[0]);
	sampler->ready_fd = ready[0];
	sampler->stop_fd = stop[1];
	sampler->stopping = false;
	return 0;

close_stop:
	sampler->pid = 0;
	close(stop[0]);
	close(stop[1]);
close_ready:
	close(ready[0]);
	close(ready[1]);
	errno = error;
	return -1;
}

bool sampler_process_ready(struct sampler_process *sampler)
{
	char byte;
	bool ready = read(sampler->ready_fd, &byte, 1) == 1;

	close(sampler->ready_fd);
	sampler->ready_fd = -1;
	return ready;
}

void sampler_process_stop(struct sampler_process *sampler)
{
	if (!sampler->stopping)
		close(sampler->stop_fd);
	sampler->stopping = true;
}
