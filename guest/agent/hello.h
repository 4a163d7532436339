/* The HELLO frame: what runs here. */
#ifndef AGENT_HELLO_H
#define AGENT_HELLO_H

/* Returns 0, or -1 with errno. */
int hello_send(int fd, const char *root);

#endif
