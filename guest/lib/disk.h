/* Disks by the serial that the host gave them: the letters in /dev/vdX mean nothing. */
#ifndef LIB_DISK_H
#define LIB_DISK_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Writes the device path of the virtio disk with that serial, waiting up to wait_ms for it.
 * False with errno ENODEV: there is none.
 */
bool disk_find(const char *serial, unsigned int wait_ms, char *device, size_t size);

#endif
