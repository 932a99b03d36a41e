"""Pixels -> logits: the protocol, each engine, measuring, choosing."""
