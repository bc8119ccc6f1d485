"""Text-to-image models behind one service."""
