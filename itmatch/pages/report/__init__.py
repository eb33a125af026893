"""One page about one run: what it reached, how it came there, and what it takes for what."""
