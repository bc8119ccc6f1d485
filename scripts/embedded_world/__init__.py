"""The embedded world: training of the embedded models, prompt sets, and what the world likes."""
