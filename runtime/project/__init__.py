"""A project: its configuration, paths, lock and stored images."""
