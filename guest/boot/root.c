#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "boot/boot.h"
#include "lib/io.h"

#define PATH_BYTES 512

/* linux/magic.h: what an initramfs can be. */
#define MAGIC_RAMFS 0x858458f6
#define MAGIC_TMPFS 0x01021994

static bool copy_program(const char *from, const char *to)
{
	int input = open(from, O_RDONLY | O_CLOEXEC);
	int output = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	ssize_t sent = -1;

	if (input != -1 && output != -1)
		while ((sent = sendfile(output, input, NULL, 1 << 24)) > 0)
			;
	if (sent != 0)
		console_failed("copy %s to %s", from, to);
	if (input != -1)
		close(input);
	if (output != -1)
		close(output);
	return sent == 0;
}

static bool copy_programs(const char *to_directory)
{
	/* Commands that end the machine by asking process 1, as busybox does. */
	static const char *const endings[] = {"poweroff", "reboot", "halt"};
	DIR *programs = opendir(BOOT_PROGRAMS);
	char from[PATH_BYTES];
	char to[PATH_BYTES];
	struct dirent *entry;
	bool copied = true;

	if (!programs) {
		console_failed("%s", BOOT_PROGRAMS);
		return false;
	}
	while ((entry = readdir(programs)))
		if (entry->d_name[0] != '.' &&
		    format_text(from, sizeof(from), "%s/%s", BOOT_PROGRAMS, entry->d_name) &&
		    format_text(to, sizeof(to), "%s/%s", to_directory, entry->d_name))
			copied = copy_program(from, to) && copied;
	closedir(programs);
	if (format_text(to, sizeof(to), "%s/busybox", to_directory))
		copied = copy_program("/bin/busybox", to) && copied;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (!format_text(to, sizeof(to), "%s/%s", to_directory, endings[i]) ||
		    symlink("busybox", to))
			console_failed("link %s", to);
	return copied;
}

static bool make_directories(const char *root, const char *const *paths, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char path[PATH_BYTES];

		if (!format_text(path, sizeof(path), "%s%s", root, paths[i]) ||
		    (mkdir(path, 0755) && errno != EEXIST)) {
			console_failed("make %s", path);
			return false;
		}
	}
	return true;
}

bool root_populate(const char *root)
{
	static const char *const directories[] = {"/run/mmscope", "/run/mmscope/bin", "/run/lock"};
	static const struct {
		const char *target;
		const char *options;
	} scratch[] = {
		{"/run", "mode=0755"},	   {"/tmp", "mode=1777"},     {"/root", "mode=0700"},
		{"/var/log", "mode=0755"}, {"/var/tmp", "mode=1777"},
	};
	char path[PATH_BYTES];

	for (size_t i = 0; i < sizeof(scratch) / sizeof(scratch[0]); i++)
		if (!format_text(path, sizeof(path), "%s%s", root, scratch[i].target) ||
		    !mount_at("tmpfs", "tmpfs", path, MS_NOSUID | MS_NODEV, scratch[i].options))
			return false;
	return make_directories(root, directories, sizeof(directories) / sizeof(directories[0])) &&
	       format_text(path, sizeof(path), "%s%s", root, ROOTED_PROGRAMS) &&
	       copy_programs(path);
}

/* Removes everything below a directory that lies on the same device. */
static void empty_directory(int directory_fd, dev_t device)
{
	DIR *directory = fdopendir(directory_fd);
	struct dirent *entry;

	if (!directory) {
		close(directory_fd);
		return;
	}
	while ((entry = readdir(directory))) {
		struct stat file;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    fstatat(directory_fd, entry->d_name, &file, AT_SYMLINK_NOFOLLOW) ||
		    file.st_dev != device)
			continue;
		if (S_ISDIR(file.st_mode)) {
			int below = openat(directory_fd, entry->d_name,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (below != -1)
				empty_directory(below, device);
		}
		unlinkat(directory_fd, entry->d_name, S_ISDIR(file.st_mode) ? AT_REMOVEDIR : 0);
	}
	closedir(directory);
}

/* Frees what the initramfs holds; never anything that is not an initramfs. */
static void free_initramfs(void)
{
	struct statfs file_system;
	struct stat top;
	uint32_t type;
	int fd;

	if (statfs("/", &file_system) || stat("/", &top))
		return;
	type = (uint32_t)file_system.f_type;
	if (type != MAGIC_RAMFS && type != MAGIC_TMPFS)
		return;
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd != -1)
		empty_directory(fd, top.st_dev);
}

bool root_switch(const char *root)
{
	static const char *const moved[] = {"/proc", "/sys", "/dev"};

	for (size_t i = 0; i < sizeof(moved) / sizeof(moved[0]); i++) {
		char path[PATH_BYTES];

		if (!format_text(path, sizeof(path), "%s%s", root, moved[i]) ||
		    mount(moved[i], path, NULL, MS_MOVE, NULL)) {
			console_failed("move %s to the root", moved[i]);
			return false;
		}
	}
	if (chdir(root)) {
		console_failed("enter %s", root);
		return false;
	}
	free_initramfs();
	if (mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) {
		console_failed("switch to the root");
		return false;
	}
	return true;
}
