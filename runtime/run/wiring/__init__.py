"""Makes the actors of a run and their subscriptions."""
