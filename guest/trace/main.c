/*
 * mmscope-trace: drains the rings of a tracefs instance to the host while a load runs.
 *
 *   mmscope-trace --instance DIR --label WINDOW [--period-ms N]
 *                                       send them to this machine's trace port
 *   mmscope-trace ... --port FD         send them to an open file, as the tests on the host do
 *
 * It switches recording on itself when it is ready, and off when it is told to stop, by a line on
 * the port ("stop WINDOW") or by SIGTERM; then it drains what is left and sends END. A line "mark
 * WINDOW TEXT" puts TEXT into the trace. So nothing has to be started in the guest while a window
 * is open; and what was said to the reader of another window, and not heard, ends nothing here.
 *
 * Frames sent: HELLO (what is read), TRACE_PAGES (source: the CPU; payload: whole sub-buffers),
 * MARK (its text is in the trace; the first says that recording is on), ERROR, END (what was sent
 * in all).
 *
 * What it does must hardly show in what it watches: all memory is there and locked before
 * recording begins, it wakes up once a period, and it writes to the port in pieces that the
 * driver takes from a slab (PORT_WRITE_BYTES).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/crc32.h"
#include "trace/reader.h"

#define PERIOD_DEFAULT_MS 20
#define PERIOD_MAX_MS	  10000

enum { OPTION_INSTANCE = 1, OPTION_LABEL, OPTION_PERIOD_MS, OPTION_PORT };

static const struct option long_options[] = {
	{"instance", required_argument, NULL, OPTION_INSTANCE},
	{"label", required_argument, NULL, OPTION_LABEL},
	{"period-ms", required_argument, NULL, OPTION_PERIOD_MS},
	{"port", required_argument, NULL, OPTION_PORT},
	{0},
};

_Noreturn static void usage(const char *text)
{
	fprintf(stderr, "mmscope-trace: %s\n", text);
	exit(2);
}

static int parse_number(const char *text, long max, const char *complaint)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (errno || end == text || *end != '\0' || number < 0 || number > max)
		usage(complaint);
	return (int)number;
}

static void parse(struct reader_options *options, int argc, char **argv)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_INSTANCE:
			options->instance = optarg;
			break;
		case OPTION_LABEL:
			options->label = optarg;
			break;
		case OPTION_PERIOD_MS:
			options->period_ms =
				parse_number(optarg, PERIOD_MAX_MS,
					     "--period-ms: expected milliseconds, 10000 at most");
			break;
		case OPTION_PORT:
			options->port_fd = parse_number(optarg, 65535,
							"--port: expected an open file's number");
			break;
		default:
			exit(2);
		}
	}
	if (optind < argc || !options->instance || !options->label || options->period_ms == 0)
		usage("usage: mmscope-trace --instance DIR --label WINDOW [--period-ms N] "
		      "[--port FD]");
}

int main(int argc, char **argv)
{
	struct reader_options options = {.period_ms = PERIOD_DEFAULT_MS, .port_fd = -1};

	crc32_init();
	parse(&options, argc, argv);
	return reader_main(&options);
}
