/* CRC-32 as zlib computes it (reflected, polynomial 0xEDB88320). */
#ifndef AGENT_CRC32_H
#define AGENT_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Fills the tables; call once before crc32_of. */
void crc32_init(void);

uint32_t crc32_of(const void *data, size_t size);

#endif
