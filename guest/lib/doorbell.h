/*
 * The doorbell: a SOCK_SEQPACKET socket in the abstract namespace. A client sends a label; the
 * sampler takes a full round under a MARK of that label, writes it out and answers one byte.
 */
#ifndef LIB_DOORBELL_H
#define LIB_DOORBELL_H

#include <stddef.h>

/* Tests choose another name by the environment, so that several can run on one machine. */
#define DOORBELL_NAME	     "mmscope-doorbell"
#define DOORBELL_VARIABLE    "MMSCOPE_DOORBELL"
#define DOORBELL_LABEL_BYTES 256

/* A listening socket, or -1 with errno. */
int doorbell_listen(void);

/* A socket connected to the sampler, or -1 with errno (ECONNREFUSED: no sampler runs). */
int doorbell_connect(void);

/* Sends a label without waiting. Returns 0, or -1 with errno. */
int doorbell_send(int fd, const char *label);

/* Sends a label and waits for its round to be written. Returns 0, or -1 with errno. */
int doorbell_ring(int fd, const char *label);

#endif
