"""Words without logic: role templates, seed instructions, prompt sets."""
