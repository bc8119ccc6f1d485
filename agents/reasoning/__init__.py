"""How actors use a language model: rewriting, gradients, proposals."""
