"""Scorers behind one service."""
