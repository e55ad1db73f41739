"""Binary tasks: which classes of a data set lie on either side."""

__all__ = ["PAIRS", "Pair"]

Pair = tuple[tuple[int, ...], tuple[int, ...]]

# Classes on either side; letters are numbered from A = 0.
PAIRS: dict[str, dict[str, Pair]] = {
    "mnist-5k": {
        "3 or 8": ((3,), (8,)),
        "4 or 9": ((4,), (9,)),
        "7 or 9": ((7,), (9,)),
        "3 or 5": ((3,), (5,)),
        "even or odd": ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9)),
    },
    "letter": {
        "B or R": ((1,), (17,)),
        "O or Q": ((14,), (16,)),
        "I or J": ((8,), (9,)),
        "A-M or N-Z": (tuple(range(13)), tuple(range(13, 26))),
    },
}
