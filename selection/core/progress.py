"""Progress of long loops, on a terminal."""

from collections.abc import Iterable

from tqdm import tqdm

__all__ = ["steps"]

LONG = 2e9  # numbers; about a second and more


def steps(count: int, name: str, numbers: float, stride: int = 1) -> Iterable[int]:
    """`range(0, count, stride)`, with a bar on stderr where the whole takes long.

    Args:
        count: end of the range.
        name: what is done.
        numbers: how many the whole loop goes through.
        stride: its step.
    """
    silent = None if numbers > LONG else True  # None: silent unless stderr is a terminal
    return tqdm(range(0, count, stride), desc=name, disable=silent, leave=False)
