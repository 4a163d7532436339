#include "agent/job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/frame.h"
#include "lib/io.h"

static char *const environment[] = {"PATH=" JOB_PATH, "HOME=/root",  "LANG=C.UTF-8",
				    "TERM=dumb",      "TMPDIR=/tmp", NULL};

_Noreturn static void run(char *const argv[], int stdout_fd, int stderr_fd)
{
	int null_fd = open("/dev/null", O_RDONLY);
	sigset_t none;
	int error;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setpgid(0, 0);
	/* The agent is exempt from the OOM killer; what it runs must not be. */
	if (write_text("/proc/self/oom_score_adj", "0"))
		perror("mmscope-agent: /proc/self/oom_score_adj");
	if (null_fd == -1 || dup2(null_fd, 0) == -1 || dup2(stdout_fd, 1) == -1 ||
	    dup2(stderr_fd, 2) == -1)
		_exit(126);
	/* Programs that leave files where they stand need a place that can be written. */
	if (chdir("/tmp") && chdir("/"))
		_exit(126);
	execvpe(argv[0], argv, environment);
	error = errno;
	dprintf(2, "mmscope-agent: cannot run %s: %s\n", argv[0], strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

int job_start(struct job *job, uint32_t seq, char *const argv[])
{
	int out[2];
	int err[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return -1;
	if (pipe2(err, O_CLOEXEC)) {
		close(out[0]);
		close(out[1]);
		return -1;
	}
	pid = fork();
	if (pid == 0)
		run(argv, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	if (pid == -1) {
		close(out[0]);
		close(err[0]);
		return -1;
	}
	/* Here as well as in the child: whoever comes first. */
	setpgid(pid, pid);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	*job = (struct job){.seq = seq, .pid = pid, .output_fd = {out[0], err[0]}};
	return 0;
}

void job_end(struct job *job, int wait_status)
{
	job->ended = true;
	job->status =
		WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

int job_forward(struct job *job, int which, int port_fd)
{
	static char chunk[32768];
	struct frame frame = {.type = which ? FRAME_STDERR : FRAME_STDOUT, .seq = job->seq};
	ssize_t got;

	if (job->output_fd[which] == -1)
		return 0;
	got = read(job->output_fd[which], chunk, sizeof(chunk));
	if (got > 0) {
		frame.start_ns = frame.end_ns = monotonic_ns();
		return frame_send(port_fd, frame, chunk, (size_t)got) ? -1 : 1;
	}
	if (got == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	close(job->output_fd[which]);
	job->output_fd[which] = -1;
	return 0;
}
