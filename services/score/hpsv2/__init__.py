"""The hpsv2 package in its own environment."""
