"""Rules about what boot hands to the buddy allocator."""
