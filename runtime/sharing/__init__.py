"""Publishes, exports and applies the results of a run."""
