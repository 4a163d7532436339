/*
 * mmscope-agent: what the host talks to inside the guest.
 *
 *   mmscope-agent [--serial PATH [--requests PATH]]
 *                                        serve the virtio-serial ports of this machine, or serial
 *                                        ports of one that has none
 *   mmscope-agent --pid1[=rooted]        be init (see boot/boot.h)
 *   mmscope-agent --control FD [--stream FD] [--root DIR]
 *                                        serve open files, as the tests on the host do
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/crc32.h"
#include "agent/port.h"
#include "boot/boot.h"
#include "lib/io.h"

#define PORT_WAIT_MS 30000

enum {
	OPTION_CONTROL = 1,
	OPTION_STREAM,
	OPTION_ROOT,
	OPTION_PID1,
	OPTION_SERIAL,
	OPTION_REQUESTS
};

static const struct option long_options[] = {
	{"control", required_argument, NULL, OPTION_CONTROL},
	{"stream", required_argument, NULL, OPTION_STREAM},
	{"root", required_argument, NULL, OPTION_ROOT},
	{"pid1", optional_argument, NULL, OPTION_PID1},
	{"serial", required_argument, NULL, OPTION_SERIAL},
	{"requests", required_argument, NULL, OPTION_REQUESTS},
	{0},
};

static int parse_fd(const char *option, const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);

	if (end == text || *end != '\0' || fd < 0 || fd > 65535) {
		fprintf(stderr, "mmscope-agent: --%s %s: expected an open file's number\n", option,
			text);
		exit(2);
	}
	return (int)fd;
}

int main(int argc, char **argv)
{
	struct control_options options = {
		.control_fd = -1, .request_fd = -1, .stream_fd = -1, .root = ""};
	const char *serial = NULL;
	const char *requests = NULL;
	int option;

	crc32_init();
	/* As /init itself, where no script can start us; the kernel's words for init are not ours.
	 */
	if (strcmp(argv[0], "/init") == 0)
		return boot_main(false);
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_CONTROL:
			options.control_fd = parse_fd("control", optarg);
			break;
		case OPTION_STREAM:
			options.stream_fd = parse_fd("stream", optarg);
			break;
		case OPTION_ROOT:
			options.root = optarg;
			break;
		case OPTION_SERIAL:
			serial = optarg;
			break;
		case OPTION_REQUESTS:
			requests = optarg;
			break;
		case OPTION_PID1:
			return boot_main(optarg && strcmp(optarg, "rooted") == 0);
		default:
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "mmscope-agent: unexpected argument: %s\n", argv[optind]);
		return 2;
	}
	if (options.control_fd == -1) {
		/* In a guest: the OOM killer is to take what is tested, not what tests it. */
		if (write_text("/proc/self/oom_score_adj", "-1000"))
			perror("mmscope: failed: agent: /proc/self/oom_score_adj");
		options.may_power_off = true;
		options.control_fd = serial ? port_open_serial(serial)
					    : port_open(options.root, CONTROL_PORT, PORT_WAIT_MS);
		if (options.control_fd == -1) {
			fprintf(stderr, "mmscope: failed: agent: port %s: %s\n",
				serial ? serial : CONTROL_PORT, strerror(errno));
			return 1;
		}
		if (requests)
			options.request_fd = port_open_serial(requests);
		if (requests && options.request_fd == -1) {
			fprintf(stderr, "mmscope: failed: agent: port %s: %s\n", requests,
				strerror(errno));
			return 1;
		}
	}
	return control_main(&options);
}
