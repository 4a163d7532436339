"""Events replayed on the allocator's state: what the kernel's free lists must look like after."""
