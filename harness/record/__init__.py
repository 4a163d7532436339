"""The run directory: what a run leaves behind, and the one thing ``analysis`` reads of ours."""
