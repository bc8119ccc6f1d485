"""bigpe: finds the instruction that makes an LLM rewrite naive image prompts into preferred ones."""

__version__ = "0.1.0"
