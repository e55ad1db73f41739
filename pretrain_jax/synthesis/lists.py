"""Image lists that stages derive from their tables: written anew wherever they differ."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path

from pretrain_jax.data.listing import list_line, write_list


def keep_list(path: Path, names: Callable[[], Iterable[str]]) -> bool:
    """Write an image list unless it is there and says the same; never holds all of it.

    So a list that is lost, changed, or of the place where a folder lay before is mended.

    Args:
        path: the list.
        names: gives the paths of the images, relative to the list's folder.

    Returns:
        Whether it was written.
    """
    if _says(path, map(list_line, names())):
        return False
    write_list(path, map(list_line, names()))
    return True


def _says(path: Path, lines: Iterable[str]) -> bool:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return all(own == line for own, line in zip_longest(file, lines))
    except (OSError, UnicodeDecodeError):
        return False
