"""Captures of a machine's /proc and /sys: opened, whatever their layout, and parsed on demand."""
