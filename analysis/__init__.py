"""Reads run directories and holds them against the model; needs no QEMU."""
