"""Watching a guest's memory management while it runs."""

WINDOW_ARCHES = ("x86_64", "arm64")
"""Architectures of whose guests the memory is read and every allocation traced."""
