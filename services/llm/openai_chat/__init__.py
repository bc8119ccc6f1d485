"""The client of all servers that speak OpenAI's chat completions."""
