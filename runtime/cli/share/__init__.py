"""Commands that hand results to people and programs."""
