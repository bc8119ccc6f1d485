"""CLIP-based scorers: checkpoints, preprocessing, model."""
