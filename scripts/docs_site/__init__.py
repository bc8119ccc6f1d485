"""What `make docs` adds to docs/: reference pages from the code, and lists that keep themselves."""
