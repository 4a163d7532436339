/* Answering `read`: whole files, by pattern. */
#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include <stdint.h>

/*
 * Sends every regular file that matches a glob(3) pattern as a FILE frame under its name without
 * root, and an ERROR frame for each that cannot be read. Returns 0, or -1 with errno when the port
 * is broken.
 */
int files_send(int port_fd, uint32_t seq, const char *root, const char *pattern);

#endif
