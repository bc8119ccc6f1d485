"""Faults of a run, found from its rounds."""
