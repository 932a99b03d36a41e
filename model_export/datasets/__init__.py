"""Labelled images to train and evaluate on."""
