"""What the kernel's own rules say should happen: plain integers in, plain integers out."""
