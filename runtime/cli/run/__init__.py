"""Commands that run and watch an optimisation."""
