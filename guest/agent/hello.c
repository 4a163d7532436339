#include "agent/hello.h"

#include <sys/utsname.h>
#include <unistd.h>

#include "agent/frame.h"
#include "agent/sources.h"
#include "lib/io.h"

int hello_send(int fd, const char *root)
{
	struct frame frame = {.type = FRAME_HELLO, .start_ns = monotonic_ns()};
	struct utsname kernel;

	if (uname(&kernel))
		return -1;
	frame.end_ns = monotonic_ns();
	return frame_send_text(fd, frame,
			       "agent=%s\npage_size=%ld\nclock_tick=%ld\ncpus=%ld\nnodes=%d\n"
			       "release=%s\nmachine=%s\n",
			       MMSCOPE_VERSION, sysconf(_SC_PAGESIZE), sysconf(_SC_CLK_TCK),
			       sysconf(_SC_NPROCESSORS_ONLN), count_nodes(root), kernel.release,
			       kernel.machine);
}
