"""Two roles for bigpe."""
