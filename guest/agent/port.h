/* The ports to the host: virtio-serial by the name that it gave them, or a serial port. */
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

/*
 * Opens a serial port for frames, on a machine without virtio: a terminal that passes on every
 * byte as it is. Returns the descriptor, or -1 with errno.
 */
int port_open_serial(const char *path);

#endif
