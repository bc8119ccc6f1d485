"""Commands that measure and compare results."""
