"""What agents use: storage, rendering, scoring, language models. Knows nothing of agents."""
