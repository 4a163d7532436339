"""Rules about nodes, zones, sections and the memmap."""
