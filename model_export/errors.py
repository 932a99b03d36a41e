"""What a command of the export stage fails with: one sentence for its user."""


class ExportError(Exception):
    """Base of the export stage's own failures."""
