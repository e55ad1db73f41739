"""The cache of finished parts: only whole records of the very sweep come out of it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardset.arrays import npy_bytes
from hardset.cache import RecordCache
from sims.results import RECORD

DRAWS = range(3)


def opened(folder: Path, *, dim: int = 10, seed: int = 0, solver: str = "native") -> RecordCache:
    """The cache of a sweep."""
    return RecordCache(folder, RECORD, (dim, seed, solver))


def records(value: float) -> np.ndarray:
    filled = np.zeros(len(DRAWS), RECORD)
    filled["margin"] = value
    return filled


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A cache's only file, with the records of one cell."""
    cache = opened(tmp_path)
    cache.store("cell", DRAWS, records(0.5))
    cache.flush()
    (path,) = tmp_path.glob("*.npy")
    return path


def loaded(folder: Path, **changes: Any) -> np.ndarray | None:
    return opened(folder, **changes).load("cell", DRAWS)


def test_what_is_stored_is_found(part: Path) -> None:
    assert np.array_equal(loaded(part.parent), records(0.5))
    for changes in ({"dim": 11}, {"seed": 1}, {"solver": "cvxpy"}):
        assert loaded(part.parent, **changes) is None


def test_every_flipped_bit_is_found(part: Path) -> None:
    """A changed file is left out: its parts are computed again."""
    whole = part.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 300):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        part.write_bytes(changed)
        found = loaded(part.parent)
        # Upper and lower case are one bit apart, and some formats do not tell them apart.
        assert found is None or np.array_equal(found, records(0.5))


def test_what_is_no_part_is_passed_over(part: Path) -> None:
    """Folders, dangling links, pipes and other people's arrays lie where parts do."""
    prefix = part.name.split("-")[0]
    foreign = {
        "numbers": np.arange(3.0),
        "scalar": np.float64(1.0),
        "table": np.zeros(2, [("key", "V16"), ("records", np.float64, (3,))]),
        "names": np.zeros(2, [("a", "V16"), ("records", RECORD, (3,))]),
        "flat": np.zeros(2, [("key", "V16"), ("records", RECORD)]),
        "square": np.zeros((2, 2), [("key", "V16"), ("records", RECORD, (3,))]),
    }
    for name, array in foreign.items():
        (part.parent / f"{prefix}-{name}.npy").write_bytes(npy_bytes(np.asarray(array)))
    (part.parent / f"{prefix}-folder.npy").mkdir()
    (part.parent / f"{prefix}-link.npy").symlink_to(part.parent / "absent")
    (part.parent / f"{prefix}-loop.npy").symlink_to(part.parent / f"{prefix}-loop.npy")
    (part.parent / f"{prefix}-empty.npy").touch()
    os.mkfifo(part.parent / f"{prefix}-pipe.npy")
    assert np.array_equal(loaded(part.parent), records(0.5))


def test_a_renamed_part_of_another_sweep_is_not_this_ones(part: Path) -> None:
    """What records belong to is in the file, not in its name alone."""
    other = opened(part.parent, seed=1)
    other.store("other", DRAWS, records(0.25))
    other.flush()
    (foreign,) = set(part.parent.glob("*.npy")) - {part}
    part.rename(foreign.with_stem(f"{foreign.stem.split('-')[0]}-{part.stem.split('-')[1]}"))
    assert loaded(part.parent, seed=1) is None
    assert other.load("other", DRAWS) is not None
