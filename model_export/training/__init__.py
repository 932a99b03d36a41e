"""A start, a recipe and data -> a checkpoint of our own."""
