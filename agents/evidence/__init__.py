"""Which terms made the difference: the evidence table of a run."""
