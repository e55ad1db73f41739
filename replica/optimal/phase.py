"""Names the kinds of selection that a phase diagram compares, without loading JAX."""

from enum import IntEnum


class Phase(IntEnum):
    """The kind of selection that has the least error."""

    UNKNOWN = -1
    TIE = 0
    RANDOM = 1
    HARD = 2
    WINDOW = 3
    EASY = 4
