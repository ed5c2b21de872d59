"""The CNI specification and nothing else."""
