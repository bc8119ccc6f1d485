"""Measuring treatments on held-out prompts and comparing them."""
