"""Rules about the slab allocators."""
