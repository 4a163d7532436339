#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "boot/boot.h"

bool mount_at(const char *type, const char *source, const char *target, unsigned long flags,
	      const char *options)
{
	/* On a read-only root the mount point exists already or the mount says what is wrong. */
	(void)mkdir(target, 0755);
	if (mount(source, target, type, flags, options) && errno != EBUSY) {
		console_failed("mount %s on %s", source, target);
		return false;
	}
	return true;
}
