"""A handful of real calls of the configured models, before a run pays for many."""
