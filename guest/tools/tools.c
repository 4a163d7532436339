/*
 * mmscope-tools: the few commands that the host asks of busybox, for guests whose architecture
 * Debian has no busybox for. Called as one of them or with its name as the first word:
 *
 *   cat FILE...           dmesg       ls -l DIRECTORY
 *   grep WORD... FILE     uname -a    sysctl -w NAME=VALUE
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/io.h"

#define SYSLOG_READ_ALL	   3
#define SYSLOG_BUFFER_SIZE 10
#define PATH_BYTES	   4096

static int complain(const char *what)
{
	fprintf(stderr, "mmscope-tools: %s: %s\n", what, strerror(errno));
	return 1;
}

static int cat_file(const char *path)
{
	char data[4096];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return complain(path);
	while ((got = read(fd, data, sizeof(data))) > 0)
		if (write_all(1, data, (size_t)got, 0)) {
			got = -1;
			break;
		}
	if (got == -1)
		complain(path);
	close(fd);
	return got == 0 ? 0 : 1;
}

static int run_cat(int count, char **words)
{
	int status = 0;

	for (int i = 1; i < count; i++)
		status |= cat_file(words[i]);
	return status;
}

/* Lines of a file that have one of the words, as it is and between spaces. */
static int run_grep(int count, char **words)
{
	FILE *file = count > 2 ? fopen(words[count - 1], "re") : NULL;
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	if (count <= 2)
		errno = EINVAL;
	if (!file)
		return complain("grep");
	while (getline(&line, &size, file) != -1) {
		bool wanted = false;
		char *copy = strdup(line);
		char *rest = copy;
		char *word;

		while (copy && (word = strsep(&rest, " \t\n")))
			for (int i = 1; i < count - 1; i++)
				wanted = wanted || strcmp(word, words[i]) == 0;
		free(copy);
		if (wanted)
			fputs(line, stdout);
		found = found || wanted;
	}
	free(line);
	fclose(file);
	return found ? 0 : 1;
}

/* Without the level that begins each message, as dmesg prints them. */
static int run_dmesg(int count, char **words)
{
	int size = klogctl(SYSLOG_BUFFER_SIZE, NULL, 0);
	char *text;
	char *line;
	int length;

	(void)count;
	(void)words;
	text = size > 0 ? malloc((size_t)size + 1) : NULL;
	if (!text)
		return complain("kernel messages");
	length = klogctl(SYSLOG_READ_ALL, text, size);
	if (length < 0) {
		free(text);
		return complain("kernel messages");
	}
	text[length] = '\0';
	line = text;
	while (*line) {
		char *end = strchr(line, '\n');
		char *level_end = *line == '<' ? strchr(line, '>') : NULL;

		if (level_end && (!end || level_end < end))
			line = level_end + 1;
		printf("%.*s\n", (int)(end ? end - line : (long)strlen(line)), line);
		line = end ? end + 1 : line + strlen(line);
	}
	free(text);
	return 0;
}

/* Only what is asked for: which entries are links, and where they lead. */
static int run_ls(int count, char **words)
{
	DIR *directory = count == 3 ? opendir(words[2]) : NULL;
	struct dirent *entry;

	if (count != 3)
		errno = EINVAL;
	if (!directory)
		return complain("ls");
	while ((entry = readdir(directory))) {
		char target[PATH_BYTES];
		ssize_t length =
			readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);

		if (entry->d_name[0] == '.')
			continue;
		if (length >= 0)
			printf("l %s -> %.*s\n", entry->d_name, (int)length, target);
		else
			printf("- %s\n", entry->d_name);
	}
	closedir(directory);
	return 0;
}

static int run_sysctl(int count, char **words)
{
	char path[PATH_BYTES];
	char *value = count == 3 ? strchr(words[2], '=') : NULL;

	if (!value) {
		errno = EINVAL;
		return complain("sysctl -w NAME=VALUE");
	}
	*value++ = '\0';
	for (char *dot = words[2]; (dot = strchr(dot, '.')); dot++)
		*dot = '/';
	if (!format_text(path, sizeof(path), "/proc/sys/%s", words[2]) || write_text(path, value))
		return complain(words[2]);
	return 0;
}

static int run_uname(int count, char **words)
{
	struct utsname kernel;

	(void)count;
	(void)words;
	if (uname(&kernel))
		return complain("uname");
	printf("%s %s %s %s %s GNU/Linux\n", kernel.sysname, kernel.nodename, kernel.release,
	       kernel.version, kernel.machine);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(int count, char **words);
} tools[] = {
	{"cat", run_cat}, {"grep", run_grep},	  {"dmesg", run_dmesg},
	{"ls", run_ls},	  {"sysctl", run_sysctl}, {"uname", run_uname},
};

int main(int argc, char **argv)
{
	for (int skip = 0; skip < 2 && skip < argc; skip++) {
		const char *slash = strrchr(argv[skip], '/');
		const char *name = slash ? slash + 1 : argv[skip];

		for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
			if (strcmp(name, tools[i].name) == 0)
				return tools[i].run(argc - skip, argv + skip);
	}
	fprintf(stderr, "mmscope-tools: this guest has no shell; it knows");
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		fprintf(stderr, " %s", tools[i].name);
	fprintf(stderr, "\n");
	return 127;
}
