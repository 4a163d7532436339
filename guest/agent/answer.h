/* How requests end: an EXIT frame, after an ERROR frame when something is to be said. */
#ifndef AGENT_ANSWER_H
#define AGENT_ANSWER_H

#include <stdint.h>

/* Statuses of requests, as of programs: 1 it failed, 2 it was not understood. */
enum { STATUS_DONE = 0, STATUS_FAILED = 1, STATUS_USAGE = 2 };

/* Ends the agent, saying on the console what failed and why (errno). */
_Noreturn void agent_give_up(const char *what);

void answer_exit(int port_fd, uint32_t seq, int status);

__attribute__((format(printf, 4, 5))) void answer_refuse(int port_fd, uint32_t seq, int status,
							 const char *format, ...);

#endif
