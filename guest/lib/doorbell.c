#include "lib/doorbell.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int doorbell_socket(struct sockaddr_un *address, socklen_t *size)
{
	const char *name = getenv(DOORBELL_VARIABLE);
	size_t length;

	if (!name)
		name = DOORBELL_NAME;
	length = strlen(name);
	if (length + 1 > sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path + 1, name, length);
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

static int close_with_error(int fd)
{
	int error = errno;

	close(fd);
	errno = error;
	return -1;
}

int doorbell_listen(void)
{
	struct sockaddr_un address;
	socklen_t size;
	int fd = doorbell_socket(&address, &size);

	if (fd == -1)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 16))
		return close_with_error(fd);
	return fd;
}

int doorbell_connect(void)
{
	struct sockaddr_un address;
	socklen_t size;
	int fd = doorbell_socket(&address, &size);

	if (fd == -1)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, size))
		return close_with_error(fd);
	return fd;
}

int doorbell_send(int fd, const char *label)
{
	size_t length = strlen(label);

	if (length == 0 || length > DOORBELL_LABEL_BYTES) {
		errno = EMSGSIZE;
		return -1;
	}
	while (send(fd, label, length, MSG_NOSIGNAL) == -1)
		if (errno != EINTR)
			return -1;
	return 0;
}

int doorbell_ring(int fd, const char *label)
{
	char answer;
	ssize_t got;

	if (doorbell_send(fd, label))
		return -1;
	while ((got = recv(fd, &answer, 1, 0)) == -1)
		if (errno != EINTR)
			return -1;
	if (got == 0) {
		errno = EPIPE;
		return -1;
	}
	return 0;
}
