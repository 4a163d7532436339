"""Captures: what /proc and /sys say of a machine at one moment, kept as a directory."""
