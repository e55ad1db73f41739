"""The files of a synthesised set, as the stage recorded them."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from pretrain_jax.stages.files import Recorded, changed_file
from pretrain_jax.stages.manifest import CLAIM
from pretrain_jax.stages.tables import Table
from pretrain_jax.synthesis.synthesising import FILES, LIST

__all__ = ["check_set"]


def check_set(folder: str | Path) -> None:
    """Check that the images that a set's list names are those that its stage recorded.

    Sizes and times are compared; what is newer than the last look is hashed, see `changed_file`.

    Args:
        folder: of a finished stage `synthesise`.

    Raises:
        ValueError: the first image that is gone or has changed, or a list that names others.
    """
    path = Path(folder)
    changed = changed_file(_recorded(path), path / CLAIM)
    if changed is not None:
        what = "has changed since the set was made" if changed.is_file() else "is gone"
        raise ValueError(
            f"image {changed} of the set {folder} {what}; put it back, or make the set anew in "
            "another folder"
        )


def _recorded(folder: Path) -> Iterator[Recorded]:
    """Every image once, where the list says that it lies."""
    with (folder / LIST).open(encoding="utf-8") as lines:
        for line, row in zip_longest(lines, _rows(Table(folder, FILES))):
            listed = (line or "").rstrip("\n")
            name, size, sha256 = row or ("", 0, "")
            # Images that lie elsewhere are listed by their way there, which ends alike.
            if not name or Path(listed).name != Path(name).name:
                raise ValueError(
                    f"{folder / LIST} names {listed!r} where its stage wrote {name!r}; it has "
                    "changed since: make the set anew in another folder"
                )
            yield Recorded(folder / listed, size, sha256)


def _rows(table: Table) -> Iterator[tuple[str, int, str]]:
    for batch in table.batches(["name", "bytes", "sha256"]):
        for name, size, sha256 in zip(*batch.values(), strict=True):
            yield str(name), int(size), str(sha256)
