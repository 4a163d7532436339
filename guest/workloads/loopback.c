/*
 * loopback: TCP connections to ourselves, one after the other, each carrying bytes in pieces of
 * seeded sizes from one process to another.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/random.h"
#include "lib/workload.h"

#define CONNECTIONS_MAX 1000000
#define PIECE_MAX_BYTES 262144

static const char usage[] = "--connections N --bytes SIZE [--piece SIZE]";

struct plan {
	const char *size_text;
	uint64_t connections;
	uint64_t bytes;
	/* Pieces are from one byte to this. */
	uint64_t piece_bytes;
	int listener_fd;
	struct sockaddr_in address;
};

static char piece[PIECE_MAX_BYTES];

static void start_listening(const struct workload *self, struct plan *plan)
{
	socklen_t size = sizeof(plan->address);

	plan->address = (struct sockaddr_in){.sin_family = AF_INET,
					     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	plan->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (plan->listener_fd == -1 ||
	    bind(plan->listener_fd, (struct sockaddr *)&plan->address, size) ||
	    listen(plan->listener_fd, 16) ||
	    getsockname(plan->listener_fd, (struct sockaddr *)&plan->address, &size))
		workload_fail(self, "listening on the loopback");
}

/* Takes every connection to its end; status 0 when all bytes of all came. */
static int be_sink(const struct plan *plan)
{
	for (uint64_t number = 0; number < plan->connections; number++) {
		int fd = accept(plan->listener_fd, NULL, NULL);
		uint64_t got = 0;
		ssize_t now;

		if (fd == -1)
			return 1;
		while ((now = read(fd, piece, sizeof(piece))) > 0)
			got += (uint64_t)now;
		close(fd);
		if (now == -1 || got != plan->bytes)
			return 1;
	}
	return 0;
}

static void send_all(const struct workload *self, const struct plan *plan, struct random *random)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd == -1 || connect(fd, (const struct sockaddr *)&plan->address, sizeof(plan->address)))
		workload_fail(self, "connecting over the loopback");
	for (uint64_t done = 0; done < plan->bytes;) {
		uint64_t size = 1 + random_below(random, plan->piece_bytes);

		if (size > plan->bytes - done)
			size = plan->bytes - done;
		if (write_all(fd, piece, size, 0))
			workload_fail(self, "sending byte %llu", (unsigned long long)done);
		done += size;
	}
	close(fd);
}

static void run(struct workload *self, struct plan *plan)
{
	struct random random = {.state = self->seed};
	int status;
	pid_t sink;

	start_listening(self, plan);
	sink = fork();
	if (sink == 0)
		_exit(be_sink(plan));
	if (sink == -1)
		workload_fail(self, "a process to receive");
	close(plan->listener_fd);
	workload_mark(self, "before");
	for (uint64_t number = 0; number < plan->connections; number++)
		send_all(self, plan, &random);
	while (waitpid(sink, &status, 0) == -1)
		if (errno != EINTR)
			workload_fail(self, "waiting for the receiver");
	if (status != 0) {
		errno = EIO;
		workload_fail(self, "the receiver ended with wait status %#x",
			      (unsigned int)status);
	}
	workload_mark(self, "sent/%llu", (unsigned long long)plan->connections);
}

int main(int argc, char **argv)
{
	enum { OPTION_CONNECTIONS = 1, OPTION_BYTES, OPTION_PIECE };
	static const struct option options[] = {
		{"connections", required_argument, NULL, OPTION_CONNECTIONS},
		{"bytes", required_argument, NULL, OPTION_BYTES},
		{"piece", required_argument, NULL, OPTION_PIECE},
		WORKLOAD_OPTIONS,
	};
	static struct plan plan = {.piece_bytes = 65536};
	struct workload self;
	int option;

	workload_init(&self, "loopback", usage);
	while ((option = workload_option(&self, argc, argv, options)) != -1) {
		switch (option) {
		case OPTION_CONNECTIONS:
			plan.connections =
				workload_number(&self, "--connections", optarg, 1, CONNECTIONS_MAX);
			break;
		case OPTION_BYTES:
			plan.size_text = optarg;
			break;
		case OPTION_PIECE:
			plan.piece_bytes = workload_size(&self, "--piece", optarg);
			if (plan.piece_bytes > PIECE_MAX_BYTES)
				workload_usage(&self, "--piece %s: more than %d bytes", optarg,
					       PIECE_MAX_BYTES);
			break;
		}
	}
	if (plan.connections == 0 || !plan.size_text)
		workload_usage(&self, "--connections and --bytes are needed");
	plan.bytes = workload_size(&self, "--bytes", plan.size_text);
	workload_begin(&self);
	run(&self, &plan);
	workload_report(&self);
	printf(", \"connections\": %llu, \"bytes\": %llu, \"piece_bytes\": %llu}\n",
	       (unsigned long long)plan.connections, (unsigned long long)plan.bytes,
	       (unsigned long long)plan.piece_bytes);
	return 0;
}
