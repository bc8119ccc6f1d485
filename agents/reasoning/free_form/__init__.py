"""The free-form style: agents for language models that can reason."""
