"""Commands that publish, export and serve results."""
