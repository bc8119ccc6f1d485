"""Values, errors and helpers that every service uses."""
