/* Small, bounded pieces of input and output that every program here needs. */
#ifndef LIB_IO_H
#define LIB_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* CLOCK_MONOTONIC in nanoseconds: the one clock of everything that is recorded. */
uint64_t monotonic_ns(void);

void sleep_ms(unsigned int ms);

/*
 * Writes all of it, waiting as long as the reader takes; never more than chunk_bytes a call
 * (0: no limit). Returns 0, or -1 with errno.
 */
int write_all(int fd, const void *data, size_t size, size_t chunk_bytes);

/*
 * Reads a small file into text, NUL-terminated, a final newline removed. Returns its length, or
 * -1 with errno (EFBIG when it does not fit).
 */
ssize_t read_text(const char *path, char *text, size_t size);

/* Writes text to an existing file such as a sysctl. Returns 0, or -1 with errno. */
int write_text(const char *path, const char *text);

/* Formats into a fixed buffer; false when it does not fit. */
__attribute__((format(printf, 3, 4))) bool format_text(char *out, size_t size, const char *format,
						       ...);

#endif
