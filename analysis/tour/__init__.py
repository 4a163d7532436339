"""What the stops of the tour mean: judges over their evidence, and words in two languages."""
