"""Encoded bytes -> pixels: pure functions."""
