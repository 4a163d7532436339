#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "boot/boot.h"
#include "lib/io.h"

void console_open(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd == -1)
		return;
	for (int standard = 0; standard < 3; standard++)
		if (fd != standard)
			dup2(fd, standard);
	if (fd > 2)
		close(fd);
}

static void say(const char *prefix, const char *suffix, const char *format, va_list arguments)
{
	char text[512];
	char line[768];

	vsnprintf(text, sizeof(text), format, arguments);
	snprintf(line, sizeof(line), "%s%s%s%s\n", prefix, text, *suffix ? ": " : "", suffix);
	/* One call, so that nothing comes between. */
	(void)!write(1, line, strlen(line));
}

void console_say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("mmscope: ", "", format, arguments);
	va_end(arguments);
}

void console_failed(const char *format, ...)
{
	const char *reason = strerror(errno);
	va_list arguments;

	va_start(arguments, format);
	say("mmscope: failed: ", reason, format, arguments);
	va_end(arguments);
}

/*
 * /dev/console can control no process, so there would be no job control and no Ctrl-C: the shell
 * gets the terminal behind it, which is the last that the kernel names.
 */
static int open_terminal(void)
{
	char active[128];
	char path[160];
	const char *last;

	if (read_text("/sys/class/tty/console/active", active, sizeof(active)) <= 0)
		return -1;
	last = strrchr(active, ' ');
	if (!format_text(path, sizeof(path), "/dev/%s", last ? last + 1 : active))
		return -1;
	return open(path, O_RDWR);
}

pid_t console_shell(const char *busybox)
{
	char *const argv[] = {"sh", "-i", NULL};
	pid_t pid = fork();
	int fd;

	if (pid != 0)
		return pid;
	setsid();
	fd = open_terminal();
	if (fd != -1) {
		for (int standard = 0; standard < 3; standard++)
			dup2(fd, standard);
		if (fd > 2)
			close(fd);
		ioctl(0, TIOCSCTTY, 0);
	}
	setenv("PS1", "mmscope# ", 1);
	if (chdir("/root") && chdir("/"))
		_exit(1);
	execv(busybox, argv);
	console_failed("console shell %s", busybox);
	_exit(1);
}
