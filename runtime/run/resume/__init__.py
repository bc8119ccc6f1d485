"""Resuming and forking a stored run."""
