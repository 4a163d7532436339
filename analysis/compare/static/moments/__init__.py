"""When the kernel computed what, and which memory it had not seen yet."""
