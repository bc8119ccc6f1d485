"""The web pages: reading a run, and rating by people. The server is local and has one user."""
