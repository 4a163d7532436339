#include "lib/random.h"

uint64_t random_next(struct random *random)
{
	uint64_t bits = random->state += 0x9E3779B97F4A7C15u;

	bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
	bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
	return bits ^ (bits >> 31);
}

uint64_t random_below(struct random *random, uint64_t limit)
{
	/* What lies past the last whole multiple of limit would favour small numbers. */
	uint64_t excess = (UINT64_MAX % limit + 1) % limit;
	uint64_t number;

	do
		number = random_next(random);
	while (number > UINT64_MAX - excess);
	return number % limit;
}

void random_shuffle(struct random *random, uint32_t *numbers, uint32_t count)
{
	for (uint32_t left = count; left > 1; left--) {
		uint32_t chosen = (uint32_t)random_below(random, left);
		uint32_t last = numbers[left - 1];

		numbers[left - 1] = numbers[chosen];
		numbers[chosen] = last;
	}
}
