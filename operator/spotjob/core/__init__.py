"""Pure: standard library and pydantic only. No clock, no I/O, no randomness."""
