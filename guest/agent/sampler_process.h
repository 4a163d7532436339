/* The sampler seen from the control process: started, asked to stop, ended. */
#ifndef AGENT_SAMPLER_PROCESS_H
#define AGENT_SAMPLER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sampler_process {
	/* 0: none runs. */
	pid_t pid;
	/* Reports the start; -1 once it has. */
	int ready_fd;
	/* Closing it stops the sampler. */
	int stop_fd;
	/* The requests that wait for its start and its end. */
	uint32_t start_seq;
	uint32_t stop_seq;
	bool stopping;
};

/* Forks a sampler. Returns 0, or -1 with errno. */
int sampler_process_start(struct sampler_process *sampler, int stream_fd, const char *root,
			  unsigned int period_ms, unsigned int sparse_every);

/* To be called when ready_fd has an event: whether the sampler runs. */
bool sampler_process_ready(struct sampler_process *sampler);

/* Asks it to end its round and its stream. May be called twice. */
void sampler_process_stop(struct sampler_process *sampler);

#endif
