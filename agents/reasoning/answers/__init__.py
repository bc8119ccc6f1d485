"""Reads answers of language models: the prompt or the JSON object in a text of any form."""
