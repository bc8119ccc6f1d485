"""The project database: messages, deliveries and the cache of calls."""
