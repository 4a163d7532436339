"""Rules about vmalloc."""
