"""bigpe inside other programs; a module a program. See docs/refining.md."""
