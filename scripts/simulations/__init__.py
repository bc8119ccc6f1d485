"""Simulations that verify formulas and defaults of the product."""
