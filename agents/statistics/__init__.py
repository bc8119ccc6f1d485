"""Statistics without I/O: moments, intervals, tests, power, change detection."""
