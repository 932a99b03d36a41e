"""Numbers on the command line, refused by argparse where they make no sense."""

import argparse
from collections.abc import Callable


def _checked(kind: Callable[[str], float], fits: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


positive_int = _checked(int, lambda value: value >= 1, "a positive whole number")
whole_number = _checked(int, lambda value: 0 <= value < 2**63, "a whole number")
non_negative = _checked(float, lambda value: 0 <= value < float("inf"), "a number that is not negative")
share = _checked(float, lambda value: 0 <= value < 1, "a share from 0 to below 1")
number = _checked(float, lambda value: abs(value) < float("inf"), "a number")
