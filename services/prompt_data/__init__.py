"""Prompt files, the professional-prompt library and data splits."""
