"""One run: the session, its services and its actors."""
