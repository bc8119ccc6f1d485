"""Progress, logs, metrics and traces of a run."""
