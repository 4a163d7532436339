/*
 * The sampler: a process of its own that reads every source in rounds. A round is read whole into
 * memory first and written out afterwards, so that writing disturbs no reading of the same round.
 */
#ifndef AGENT_SAMPLER_H
#define AGENT_SAMPLER_H

struct sampler_options {
	/* Where the frames go. */
	int stream_fd;
	/* The sampler stops when this reports end of file. */
	int stop_fd;
	/* One byte is written here once the doorbell answers. */
	int ready_fd;
	/* "" for the machine itself. */
	const char *root;
	/* 0: only marked rounds. */
	unsigned int period_ms;
	/* Every how many timed rounds the sparse sources are read too; 0: only in marked rounds. */
	unsigned int sparse_every;
};

/* Runs until told to stop; the exit status of the process. */
int sampler_main(const struct sampler_options *options);

#endif
