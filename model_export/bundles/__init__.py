"""A checkpoint -> a verified bundle that the service takes."""
