"""Composition and people: configuration, sessions, the command line."""
