"""Experiments: grids of runs, and their report."""
