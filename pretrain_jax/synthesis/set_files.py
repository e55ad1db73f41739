"""The files of a synthesised set, as the stage recorded them."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from pretrain_jax.data.listing import list_line
from pretrain_jax.stages.files import Recorded, changed_file
from pretrain_jax.stages.manifest import CLAIM, remedy
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
        raise ValueError(f"image {changed} of the set {folder} {what}; {remedy(path / LIST)}")


def _recorded(folder: Path) -> Iterator[Recorded]:
    """Every image once, where the list says that it lies; a set may be copied without its index."""
    with (folder / LIST).open(encoding="utf-8", newline="\n") as lines:
        for line, row in zip_longest(lines, _rows(Table(folder, FILES))):
            listed = (line or "").removesuffix("\n")
            name, written, size, sha256 = row or ("", True, 0, "")
            # Images that lie elsewhere are listed by their way there, which ends alike.
            same = line == list_line(name) if written else Path(listed).name == Path(name).name
            if not row or not same:
                found = f"names {listed!r}" if line else "ends"
                wrote = repr(name) if row else "no more"
                raise ValueError(
                    f"{folder / LIST} {found} where its stage wrote {wrote}; it has changed since: "
                    "run python -m pretrain_jax synthesise again, which writes it anew"
                )
            yield Recorded(folder / listed, size, sha256)


def _rows(table: Table) -> Iterator[tuple[str, bool, int, str]]:
    for batch in table.batches(["name", "written", "bytes", "sha256"]):
        for name, written, size, sha256 in zip(*batch.values(), strict=True):
            yield str(name), bool(written), int(size), str(sha256)
