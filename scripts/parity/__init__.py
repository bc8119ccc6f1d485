"""Comparison of scores with the official hpsv2 package."""
