/* Drains rings to the port until it is told to stop; see main.c for what it says. */
#ifndef TRACE_READER_H
#define TRACE_READER_H

struct reader_options {
	const char *instance;
	const char *label;
	int period_ms;
	/* -1: the trace port of this machine. */
	int port_fd;
};

/* Returns 0 when all was drained and said; ends the program with status 1 when it cannot be. */
int reader_main(const struct reader_options *options);

#endif
