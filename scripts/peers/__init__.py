"""The race against other prompt optimisers; see docs/decisions/0013-a-fair-race.md."""
