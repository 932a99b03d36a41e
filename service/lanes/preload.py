"""What the process that lanes are forked from loads: all that a lane needs, so that lanes share it."""

import gc

import service.lanes.program  # noqa: F401

gc.freeze()  # a collection writes to every object that it looks at, and what is written to is shared no longer
