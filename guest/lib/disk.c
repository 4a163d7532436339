#include "lib/disk.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "lib/io.h"

#define POLL_MS 10

static bool find_now(const char *serial, char *device, size_t size)
{
	DIR *disks = opendir("/sys/block");
	struct dirent *entry;
	bool found = false;

	if (!disks)
		return false;
	while (!found && (entry = readdir(disks))) {
		char path[128];
		char text[64];

		if (strncmp(entry->d_name, "vd", 2) != 0 ||
		    !format_text(path, sizeof(path), "/sys/block/%s/serial", entry->d_name) ||
		    read_text(path, text, sizeof(text)) == -1)
			continue;
		found = strcmp(text, serial) == 0 &&
			format_text(device, size, "/dev/%s", entry->d_name);
	}
	closedir(disks);
	return found;
}

bool disk_find(const char *serial, unsigned int wait_ms, char *device, size_t size)
{
	while (!find_now(serial, device, size)) {
		if (wait_ms < POLL_MS) {
			errno = ENODEV;
			return false;
		}
		sleep_ms(POLL_MS);
		wait_ms -= POLL_MS;
	}
	return true;
}
