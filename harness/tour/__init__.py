"""The tour: what to boot and what to gather at each stop. What it means is told by analysis."""
