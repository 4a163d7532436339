#include "agent/port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "lib/io.h"

#define POLL_MS 10

static int open_if_there(const char *root, const char *name)
{
	char path[128];
	struct dirent *entry;
	DIR *ports;
	int fd = -1;

	errno = ENODEV;
	if (!format_text(path, sizeof(path), "%s/sys/class/virtio-ports", root))
		return -1;
	ports = opendir(path);
	if (!ports)
		return -1;
	while (fd == -1 && (entry = readdir(ports))) {
		char found[64];

		if (entry->d_name[0] == '.' ||
		    !format_text(path, sizeof(path), "%s/sys/class/virtio-ports/%s/name", root,
				 entry->d_name) ||
		    read_text(path, found, sizeof(found)) == -1 || strcmp(found, name) != 0)
			continue;
		if (format_text(path, sizeof(path), "%s/dev/%s", root, entry->d_name))
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	closedir(ports);
	if (fd == -1 && (errno == 0 || errno == ENOENT))
		errno = ENODEV;
	return fd;
}

int port_open(const char *root, const char *name, unsigned int wait_ms)
{
	for (;;) {
		int fd = open_if_there(root, name);

		/* ENXIO and ENOENT: the device node comes a moment before its driver is ready. */
		if (fd != -1 || (errno != ENODEV && errno != ENXIO) || wait_ms < POLL_MS)
			return fd;
		sleep_ms(POLL_MS);
		wait_ms -= POLL_MS;
	}
}

int port_open_serial(const char *path)
{
	struct termios settings;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	int error;

	if (fd == -1)
		return -1;
	if (tcgetattr(fd, &settings) == 0) {
		cfmakeraw(&settings);
		/* The emulated port is as fast as the host; only the driver asks for a speed. */
		cfsetspeed(&settings, B115200);
		settings.c_cflag |= CLOCAL | CREAD;
		settings.c_cc[VMIN] = 1;
		settings.c_cc[VTIME] = 0;
		if (tcsetattr(fd, TCSANOW, &settings) == 0)
			return fd;
	}
	error = errno;
	close(fd);
	errno = error;
	return -1;
}
