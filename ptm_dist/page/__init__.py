"""The report of a run, or of several beside each other, as one page that needs nothing else."""
