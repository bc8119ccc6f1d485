"""Which actors a run has."""
