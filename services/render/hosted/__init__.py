"""Painters behind HTTP services."""
