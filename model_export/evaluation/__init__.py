"""How well a checkpoint or a bundle classifies, and what is inside it."""
