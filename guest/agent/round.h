/* One sampling round: read everything into an arena, then turn it into frames in place. */
#ifndef AGENT_ROUND_H
#define AGENT_ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/sources.h"

struct arena {
	uint8_t *data;
	size_t size_bytes;
	size_t used_bytes;
	/* How often it had to grow after it was first sized. */
	unsigned int grown;
};

struct round {
	uint32_t seq;
	/* Marked rounds carry a label, and are always sparse. */
	const char *label;
	uint64_t label_ns;
	bool sparse;
};

/* Sizes the arena by a trial round and faults it in. Returns 0, or -1 with errno. */
int arena_prepare(struct arena *arena, const struct sources *sources);

/* Reads a round and leaves it in the arena as frames. Returns 0, or -1 with errno (ENOMEM). */
int round_take(struct arena *arena, const struct sources *sources, const struct round *round);

#endif
