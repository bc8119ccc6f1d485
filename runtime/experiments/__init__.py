"""Grids of runs that answer a question, and their report."""
