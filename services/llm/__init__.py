"""Language models behind one service."""
