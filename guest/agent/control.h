/* The control process: requests from the host in, answers out. */
#ifndef AGENT_CONTROL_H
#define AGENT_CONTROL_H

#include <stdbool.h>

struct control_options {
	int control_fd;
	/* Where requests come from; -1: the control port. */
	int request_fd;
	/* -1: the stream port is looked for when sampling starts. */
	int stream_fd;
	const char *root;
	/* Whether `poweroff` ends the machine, or only this process. */
	bool may_power_off;
};

/* Serves until the control port is closed for good; the exit status of the process. */
int control_main(const struct control_options *options);

#endif
