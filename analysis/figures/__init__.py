"""Still figures of a run; drawing reads tables and facts and touches nothing else."""
