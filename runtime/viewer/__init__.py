"""The web pages: read a run, or ask people. One server for one person, on this machine only."""
