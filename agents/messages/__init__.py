"""The messages that actors exchange, and the frozen plan of a run."""
