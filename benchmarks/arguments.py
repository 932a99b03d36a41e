"""Types of numbers on the command line: what cannot be is refused with a reason."""

import argparse


def whole(text: str) -> int:
    """1, 2, ..."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def positive(text: str) -> float:
    """More than 0, and finite."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def not_negative(text: str) -> float:
    """0 or more, and finite."""
    if not 0 <= (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value
