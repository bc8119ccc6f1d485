"""Kills runs at random instants, resumes them and checks the results."""
