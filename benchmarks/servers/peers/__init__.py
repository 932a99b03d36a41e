"""Other servers doing the same work, each in its own idiom and its own environment (README.md)."""
