"""Waiting for services that do not answer, and adapting to those that answer slowly."""
