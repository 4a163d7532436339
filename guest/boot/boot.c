#include "boot/boot.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/job.h"
#include "lib/disk.h"
#include "lib/io.h"

#define ROOT_SERIAL   "mmscope-root"
#define ROOT_WAIT_MS  10000
#define ROOT_TYPE     "erofs"
#define NEW_ROOT      "/newroot"
#define SSH_KEY_BYTES 256
/* sys/klog.h names no commands: set the level below which messages reach the console. */
#define SYSLOG_CONSOLE_LEVEL 8
#define LEVEL_WARNING	     4
#define SHELL_REST_MS	     1000
#define SHELL_SHORT_NS	     1000000000u

struct init {
	const char *programs;
	const char *busybox;
	sigset_t signals;
	pid_t agent;
	pid_t shell;
	uint64_t shell_start_ns;
};

static pid_t start(char *const argv[])
{
	pid_t pid = fork();
	sigset_t none;

	if (pid != 0)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	execv(argv[0], argv);
	console_failed("start %s", argv[0]);
	_exit(127);
}

static void start_agent(struct init *self)
{
	char path[128];
	char serial[64];
	char requests[64];
	char *argv[] = {path, NULL, NULL, NULL, NULL, NULL};

	/* The host names the agent's ports where there is no virtio. */
	if (cmdline_value("mmscope.control", serial, sizeof(serial)) &&
	    cmdline_value("mmscope.requests", requests, sizeof(requests))) {
		argv[1] = "--serial";
		argv[2] = serial;
		argv[3] = "--requests";
		argv[4] = requests;
	}
	if (format_text(path, sizeof(path), "%s/mmscope-agent", self->programs))
		self->agent = start(argv);
}

static void start_ssh(const struct init *self, char *key)
{
	char path[128];
	char *argv[] = {(char *)self->busybox, "sh", path, key, NULL};

	if (format_text(path, sizeof(path), "%s/start-ssh", self->programs))
		start(argv);
}

static void start_shell(struct init *self)
{
	sigset_t none;

	if (access(self->busybox, X_OK))
		return;
	self->shell_start_ns = monotonic_ns();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	self->shell = console_shell(self->busybox);
	sigprocmask(SIG_BLOCK, &self->signals, NULL);
}

static void end_machine(int command)
{
	sync();
	if (reboot(command))
		console_failed("powering off");
}

static void reap(struct init *self)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == self->agent) {
			self->agent = 0;
			console_say("failed: the agent ended with status %d",
				    WIFSIGNALED(status) ? 128 + WTERMSIG(status)
							: WEXITSTATUS(status));
		} else if (pid == self->shell) {
			/* One that cannot start must not fill the console. */
			if (monotonic_ns() - self->shell_start_ns < SHELL_SHORT_NS)
				sleep_ms(SHELL_REST_MS);
			start_shell(self);
		}
	}
}

/* What is left to do for ever. */
_Noreturn static void supervise(struct init *self)
{
	/* Not sigwaitinfo, which comes back at once for ever on m68k (glibc 2.36, Linux 5.10). */
	int fd = signalfd(-1, &self->signals, SFD_CLOEXEC);
	struct signalfd_siginfo signal;

	if (fd == -1)
		console_failed("signalfd");
	for (;;) {
		if (read(fd, &signal, sizeof(signal)) != (ssize_t)sizeof(signal)) {
			sleep_ms(SHELL_REST_MS);
			continue;
		}
		switch (signal.ssi_signo) {
		case SIGCHLD:
			reap(self);
			break;
		case SIGUSR1:
		case SIGUSR2:
			end_machine(RB_POWER_OFF);
			break;
		case SIGTERM:
		case SIGINT:
			end_machine(RB_AUTOBOOT);
			break;
		}
	}
}

static void block_signals(struct init *self)
{
	static const int numbers[] = {SIGCHLD, SIGUSR1, SIGUSR2, SIGTERM, SIGINT};

	sigemptyset(&self->signals);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&self->signals, numbers[i]);
	sigprocmask(SIG_BLOCK, &self->signals, NULL);
	/* Ctrl-Alt-Del asks us, as SIGINT. */
	reboot(RB_DISABLE_CAD);
}

_Noreturn static void run_system(bool rooted)
{
	struct init self = {
		.programs = rooted ? ROOTED_PROGRAMS : BOOT_PROGRAMS,
		.busybox = rooted ? ROOTED_PROGRAMS "/busybox" : "/bin/busybox",
	};
	char ssh_key[SSH_KEY_BYTES];

	block_signals(&self);
	setenv("PATH", JOB_PATH, 1);
	setenv("HOME", "/root", 1);
	setenv("LANG", "C.UTF-8", 1);
	setenv("TERM", "dumb", 1);
	start_agent(&self);
	if (sethostname("mmscope", strlen("mmscope")))
		console_failed("sethostname");
	network_loopback();
	console_say("ready");
	if (rooted && cmdline_value("mmscope.ssh_key", ssh_key, sizeof(ssh_key)))
		start_ssh(&self, ssh_key);
	start_shell(&self);
	supervise(&self);
}

/* Only a shell is left, to see what went wrong. */
_Noreturn static void run_rescue(void)
{
	struct init self = {.programs = BOOT_PROGRAMS, .busybox = "/bin/busybox"};

	block_signals(&self);
	setenv("PATH", JOB_PATH, 1);
	setenv("TERM", "dumb", 1);
	start_shell(&self);
	supervise(&self);
}

/* Whether the kernel is built with a type of file system. */
static bool is_known(const char *type)
{
	char known[4096];
	char line[64];
	ssize_t length = read_text("/proc/filesystems", known, sizeof(known) - 1);

	if (length <= 0 || !format_text(line, sizeof(line), "\t%s\n", type))
		return false;
	/* The newline that read_text took off the last. */
	known[length] = '\n';
	known[length + 1] = '\0';
	return strstr(known, line);
}

static void mount_root(void)
{
	char device[64];

	if (!disk_find(ROOT_SERIAL, ROOT_WAIT_MS, device, sizeof(device))) {
		console_failed("no disk with the serial %s", ROOT_SERIAL);
		run_rescue();
	}
	if (!mount_at(ROOT_TYPE, device, NEW_ROOT, MS_RDONLY, NULL) || !root_populate(NEW_ROOT))
		run_rescue();
}

int boot_main(bool rooted)
{
	char *const again[] = {ROOTED_PROGRAMS "/mmscope-agent", "--pid1=rooted", NULL};
	char root[32];

	if (getpid() != 1) {
		fprintf(stderr, "mmscope-agent: --pid1 is for process 1 of a guest\n");
		return 2;
	}
	if (rooted)
		run_system(true);
	mount_at("proc", "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("devtmpfs", "devtmpfs", "/dev", MS_NOSUID, "mode=0755");
	console_open();
	/* Chatter costs emulated time, and could end up inside the lines that the host waits for.
	 */
	if (klogctl(SYSLOG_CONSOLE_LEVEL, NULL, LEVEL_WARNING + 1))
		console_failed("console log level");
	mount_at("debugfs", "debugfs", "/sys/kernel/debug", 0, NULL);
	if (is_known("tracefs"))
		mount_at("tracefs", "tracefs", "/sys/kernel/tracing", 0, NULL);
	mount_at("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
	mount_at("tmpfs", "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	modules_load("/modules", "order");
	if (cmdline_value("mmscope.root", root, sizeof(root)) && strcmp(root, "none") == 0)
		run_system(false);
	mount_root();
	if (!root_switch(NEW_ROOT))
		run_rescue();
	execv(again[0], again);
	console_failed("start %s", again[0]);
	run_rescue();
}
