"""Rules about the sizes of per-cpu lists."""
