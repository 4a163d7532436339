#include "lib/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sleep_ms(unsigned int ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&left, &left) == -1 && errno == EINTR)
		;
}

int write_all(int fd, const void *data, size_t size, size_t chunk_bytes)
{
	const char *next = data;

	while (size > 0) {
		size_t want = chunk_bytes && size > chunk_bytes ? chunk_bytes : size;
		ssize_t done = write(fd, next, want);

		if (done >= 0) {
			next += done;
			size -= (size_t)done;
		} else if (errno == EAGAIN) {
			struct pollfd writable = {.fd = fd, .events = POLLOUT};

			poll(&writable, 1, -1);
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;

	if (fd == -1)
		return -1;
	while (length < size) {
		ssize_t got = read(fd, text + length, size - length);

		if (got == -1 && errno == EINTR)
			continue;
		if (got == -1) {
			int error = errno;

			close(fd);
			errno = error;
			return -1;
		}
		if (got == 0)
			break;
		length += (size_t)got;
	}
	close(fd);
	if (length == size) {
		errno = EFBIG;
		return -1;
	}
	if (length > 0 && text[length - 1] == '\n')
		length--;
	text[length] = '\0';
	return (ssize_t)length;
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error;

	if (fd == -1)
		return -1;
	error = write_all(fd, text, strlen(text), 0) ? errno : 0;
	if (close(fd) && !error)
		error = errno;
	errno = error;
	return error ? -1 : 0;
}

bool format_text(char *out, size_t size, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(out, size, format, arguments);
	va_end(arguments);
	return length >= 0 && (size_t)length < size;
}
