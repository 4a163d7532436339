/* Which files a round reads, under which names and in which order. */
#ifndef AGENT_SOURCES_H
#define AGENT_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#define SOURCES_MAX	  256
#define SOURCE_NAME_BYTES 48
#define SOURCE_PATH_BYTES 192

struct source {
	char name[SOURCE_NAME_BYTES];
	char path[SOURCE_PATH_BYTES];
	/* Read only in sparse and in marked rounds. */
	bool sparse;
	/* From 1; 0 stands for no source on the wire. */
	uint16_t id;
	/* -1 when it could not be opened; error then holds the errno. */
	int fd;
	int error;
};

struct sources {
	struct source list[SOURCES_MAX];
	int count;
	/* More files exist than SOURCES_MAX. */
	bool overflow;
};

/* Lists and opens every source below root ("" for the machine itself). */
void sources_open(struct sources *sources, const char *root);

/* Memory nodes below root; 1 when the kernel knows no nodes. */
int count_nodes(const char *root);

#endif
