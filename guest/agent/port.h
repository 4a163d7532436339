/* Finding a virtio-serial port by the name that the host gave it. */
#ifndef AGENT_PORT_H
#define AGENT_PORT_H

#define CONTROL_PORT "org.mmscope.control"
#define STREAM_PORT  "org.mmscope.stream"
#define TRACE_PORT   "org.mmscope.trace"

/*
 * Opens the port of that name, waiting up to wait_ms for it to appear. Returns the descriptor, or
 * -1 with errno (ENODEV: no such port).
 */
int port_open(const char *root, const char *name, unsigned int wait_ms);

#endif
