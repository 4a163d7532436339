"""Boot: memblock's regions, and what of them the buddy allocator gets."""
