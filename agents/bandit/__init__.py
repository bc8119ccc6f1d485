"""Which instruction to try next: policies and the pool of instructions."""
