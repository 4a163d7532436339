"""Experiments: what to boot, how to watch it, and which loads to put on it."""
