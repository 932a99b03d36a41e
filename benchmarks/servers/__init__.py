"""The servers under test: ours, and those of others."""
