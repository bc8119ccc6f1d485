"""Named models: downloads and fingerprints."""
