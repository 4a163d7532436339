/* A program run on request: its process group, its output, its end. */
#ifndef AGENT_JOB_H
#define AGENT_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define JOBS_MAX 8

/* Searched by exec, and given to what is run. */
#define JOB_PATH "/run/mmscope/bin:/mmscope:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct job {
	/* The request that started it; a job is free when pid is 0. */
	uint32_t seq;
	pid_t pid;
	/* Read ends; -1 after end of file. */
	int output_fd[2];
	bool ended;
	/* 0-255; 128 + N after signal N. */
	int status;
};

/* Starts argv (NULL-terminated). Returns 0, or -1 with errno. */
int job_start(struct job *job, uint32_t seq, char *const argv[]);

/* Notes how it ended, from waitpid's status. */
void job_end(struct job *job, int wait_status);

/*
 * Passes on what one of its outputs (0: stdout, 1: stderr) holds, as frames; closes it at end of
 * file. Returns 1 when there may be more, 0 when not, -1 with errno when the port is broken.
 */
int job_forward(struct job *job, int which, int port_fd);

#endif
