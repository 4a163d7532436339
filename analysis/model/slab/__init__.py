"""The slab allocators: SLUB, and SLAB and SLOB where a kernel still has them."""
