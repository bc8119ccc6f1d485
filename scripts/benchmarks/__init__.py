"""Measurements of the product; each prints its figures as JSON lines."""
