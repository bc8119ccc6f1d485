"""Readers of prompt files: one module for each family of formats."""
