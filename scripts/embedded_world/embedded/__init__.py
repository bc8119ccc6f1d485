"""The embedded world and the training of its two models (development only, never installed)."""
