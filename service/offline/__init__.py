"""Classifying without HTTP: Python's `Classifier`, and `mixer-classify` for files."""
