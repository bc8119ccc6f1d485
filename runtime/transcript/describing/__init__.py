"""Descriptions of messages: content without layout, for terminal and pages."""
