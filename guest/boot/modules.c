#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/boot.h"
#include "lib/io.h"

static void load(const char *directory, const char *name)
{
	char path[256];
	int fd;

	if (!format_text(path, sizeof(path), "%s/%s", directory, name)) {
		errno = ENAMETOOLONG;
		console_failed("module %s", name);
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	/* EEXIST: built in, or loaded by the kernel itself. */
	if (fd == -1 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
		console_failed("module %s", name);
	if (fd != -1)
		close(fd);
}

void modules_load(const char *directory, const char *order_name)
{
	char path[256];
	char order[16384];
	char *rest = order;
	char *name;

	if (!format_text(path, sizeof(path), "%s/%s", directory, order_name))
		return;
	if (read_text(path, order, sizeof(order)) == -1) {
		/* A kernel with everything built in needs no modules, and no list of them. */
		if (errno != ENOENT)
			console_failed("%s", path);
		return;
	}
	while ((name = strsep(&rest, "\n")))
		if (*name != '\0')
			load(directory, name);
}
