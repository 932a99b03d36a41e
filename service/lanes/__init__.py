"""Where images are decoded and passed."""
