"""Publishing, exporting and applying what a run found."""
