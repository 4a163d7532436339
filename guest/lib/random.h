/* Seeded numbers: the same seed makes the same run on every machine. */
#ifndef LIB_RANDOM_H
#define LIB_RANDOM_H

#include <stdint.h>

struct random {
	uint64_t state;
};

/* The next of 2^64 equally likely numbers (the splitmix64 sequence). */
uint64_t random_next(struct random *random);

/* A number below limit (above 0), each equally likely. */
uint64_t random_below(struct random *random, uint64_t limit);

/* Puts count numbers into an order of which all are equally likely. */
void random_shuffle(struct random *random, uint32_t *numbers, uint32_t count);

#endif
