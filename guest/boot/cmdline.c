#include <string.h>

#include "boot/boot.h"
#include "lib/io.h"

bool cmdline_value(const char *key, char *value, size_t size)
{
	char line[8192];
	size_t key_length = strlen(key);
	char *rest = line;
	char *word;
	bool found = false;

	if (read_text("/proc/cmdline", line, sizeof(line)) == -1) {
		console_failed("/proc/cmdline");
		return false;
	}
	/* The last one wins, as in the kernel. */
	while ((word = strsep(&rest, " ")))
		if (strncmp(word, key, key_length) == 0 && word[key_length] == '=')
			found = format_text(value, size, "%s", word + key_length + 1);
	return found;
}
