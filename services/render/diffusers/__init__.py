"""Painters of diffusers: their families, what their calls take, and the process that paints."""
