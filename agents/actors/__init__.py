"""The core actors: each handles its message kinds durably, once per message."""
