#include "agent/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/frame.h"
#include "lib/io.h"

#define FIRST_BYTES (64u << 10)

static int send_error(int port_fd, uint32_t seq, const char *name, const char *why)
{
	return frame_send_text(port_fd, (struct frame){.type = FRAME_ERROR, .seq = seq}, "%s: %s",
			       name, why);
}

/*
 * Reads fd to its end behind the first offset bytes of *data, which grows as needed: files of proc
 * and sysfs do not know their size. Returns the length of all, or 0 with errno.
 */
static size_t read_whole(int fd, char **data, size_t *size, size_t offset)
{
	size_t length = offset;

	for (;;) {
		ssize_t got;

		if (*size - length < 4096) {
			char *larger = realloc(*data, 2 * *size);

			if (!larger)
				return 0;
			*data = larger;
			*size *= 2;
		}
		got = read(fd, *data + length, *size - length);
		if (got == 0)
			return length;
		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1)
			return 0;
		length += (size_t)got;
		if (length > FRAME_MAX_PAYLOAD_BYTES) {
			errno = EFBIG;
			return 0;
		}
	}
}

static int send_file(int port_fd, uint32_t seq, const char *path, const char *name)
{
	struct frame frame = {.type = FRAME_FILE, .seq = seq, .start_ns = monotonic_ns()};
	size_t offset = strlen(name) + 1;
	size_t size = offset + FIRST_BYTES;
	char *data = NULL;
	size_t length = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int result;
	int error = errno;

	if (fd != -1) {
		data = malloc(size);
		if (data) {
			memcpy(data, name, offset);
			length = read_whole(fd, &data, &size, offset);
		}
		error = errno;
		close(fd);
	}
	frame.end_ns = monotonic_ns();
	if (length > 0)
		result = frame_send(port_fd, frame, data, length);
	else
		result = send_error(port_fd, seq, name, strerror(error));
	free(data);
	return result;
}

int files_send(int port_fd, uint32_t seq, const char *root, const char *pattern)
{
	char path[PATH_MAX];
	glob_t found;
	int result = 0;
	int error;

	if (!format_text(path, sizeof(path), "%s%s", root, pattern))
		return send_error(port_fd, seq, pattern, strerror(ENAMETOOLONG));
	error = glob(path, 0, NULL, &found);
	if (error)
		return send_error(port_fd, seq, pattern,
				  error == GLOB_NOMATCH ? "no file matches" : "cannot be searched");
	for (size_t i = 0; i < found.gl_pathc && result == 0; i++) {
		struct stat file;

		if (stat(found.gl_pathv[i], &file))
			result = send_error(port_fd, seq, found.gl_pathv[i] + strlen(root),
					    strerror(errno));
		else if (S_ISREG(file.st_mode))
			result = send_file(port_fd, seq, found.gl_pathv[i],
					   found.gl_pathv[i] + strlen(root));
	}
	globfree(&found);
	return result;
}
