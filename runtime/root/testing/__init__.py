"""Fast, deterministic models and runs for the tests of plugins (docs/roles.md).

`bigpe.testing.fakes` holds the language model, the renderer and the scorer. `bigpe.testing.runs`
runs an optimisation on them in seconds. `bigpe.testing.campaigns` drives a campaign without actors.
Import from those modules: a process that only renders must not load AutoGen.
"""
