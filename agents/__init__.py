"""The actors, what they say to each other, and how they decide."""
