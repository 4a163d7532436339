"""One QEMU process: what it is made of, how it starts, speaks, crashes and ends."""
