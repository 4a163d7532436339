#include "agent/crc32.h"

/* table[k][b] advances byte b through k further zero bytes: four bytes a step. */
static uint32_t table[4][256];

void crc32_init(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0xEDB88320u : 0);
		table[0][byte] = crc;
	}
	for (int step = 1; step < 4; step++)
		for (int byte = 0; byte < 256; byte++) {
			uint32_t previous = table[step - 1][byte];

			table[step][byte] = (previous >> 8) ^ table[0][previous & 0xff];
		}
}

uint32_t crc32_of(const void *data, size_t size)
{
	const uint8_t *next = data;
	uint32_t crc = ~0u;

	for (; size >= 4; size -= 4, next += 4) {
		crc ^= (uint32_t)next[0] | (uint32_t)next[1] << 8 | (uint32_t)next[2] << 16 |
		       (uint32_t)next[3] << 24;
		crc = table[3][crc & 0xff] ^ table[2][crc >> 8 & 0xff] ^
		      table[1][crc >> 16 & 0xff] ^ table[0][crc >> 24];
	}
	for (; size > 0; size--, next++)
		crc = (crc >> 8) ^ table[0][(crc ^ *next) & 0xff];
	return ~crc;
}
