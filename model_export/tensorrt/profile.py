"""The batch sizes that an engine is compiled for."""

import argparse
from typing import NamedTuple


class Profile(NamedTuple):
    """An optimization profile: the engine takes `smallest` to `largest` images and is tuned for `fastest`."""

    smallest: int
    fastest: int
    largest: int


def parse_profile(text: str) -> Profile:
    """Read "MIN,OPT,MAX"; an argument type for argparse."""
    try:
        profile = Profile(*map(int, text.split(",")))
    except (TypeError, ValueError):
        profile = Profile(0, 0, 0)
    if profile.smallest < 1 or list(profile) != sorted(profile):
        raise argparse.ArgumentTypeError(f"{text!r} is not three ascending batch sizes, as in 1,8,64")
    return profile
