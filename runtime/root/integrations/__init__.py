"""bigpe inside other programs: one module for each program. See docs/refining.md."""
