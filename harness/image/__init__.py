"""The guest image: what the kernel finds when it has booted."""
