#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/boot.h"

bool network_loopback(void)
{
	struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool up = fd != -1 && ioctl(fd, SIOCSIFFLAGS, &loopback) == 0;

	if (!up)
		console_failed("bringing up lo");
	if (fd != -1)
		close(fd);
	return up;
}
