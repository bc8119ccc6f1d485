"""Reading a stored run: messages, summary, search, costs, health."""
