"""Shows the progress of long loops, on a terminal or where it is asked for."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

LONG = 2e9  # numbers; about a second and more
SECONDS = 10.0  # between two lines where stderr is a file

_asked: ContextVar[bool] = ContextVar("asked", default=False)


@contextmanager
def asked_for_progress(asked: bool) -> Iterator[None]:
    """Show all progress bars within the block if `asked`, wherever stderr goes."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def bar(
    total: int | None,
    name: str,
    unit: str,
    *,
    shown: bool | None = None,
    start: int = 0,
) -> "tqdm[Any]":
    """Draw a progress bar on stderr, which its `update` moves.

    Args:
        total: how many units there are, if that is known.
        name: what is done.
        unit: of what.
        shown: whether it is drawn; by default where stderr is a terminal, or within
            `asked_for_progress`.
        start: how many units were done before.
    """
    options: dict[str, Any] = _shown() if shown is None else {"disable": not shown}
    return tqdm(
        total=total,
        initial=start,
        desc=name,
        unit=unit,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        **options,
    )


def steps(count: int, name: str, numbers: float, stride: int = 1) -> Iterable[int]:
    """Count by `range(0, count, stride)`, with a progress bar if it takes long.

    Args:
        count: end of the range.
        name: what is done.
        numbers: how many the whole loop goes through.
        stride: its step.
    """
    options = _shown() if numbers > LONG or _asked.get() else {"disable": True}
    return tqdm(range(0, count, stride), desc=name, leave=False, **options)


def _shown() -> dict[str, Any]:
    if not _asked.get():
        return {"disable": None}  # silent unless stderr is a terminal
    # Ten lines in a second would fill a file.
    return {"disable": False, "mininterval": 0.1 if sys.stderr.isatty() else SECONDS}
