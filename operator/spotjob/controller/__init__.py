"""Does what the core decides: watches, batches, launches, writes. Decides nothing."""
