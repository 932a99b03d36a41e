"""What is loaded, how that changes, and the life of one image."""
