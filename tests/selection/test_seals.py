"""What selection writes and reads back is checked: no flipped bit changes a result in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from hardset.arrays import npy_bytes
from hardset.seal import BLANK_SEAL, SealError, check_seal
from selection import Scores, Subset
from selection.files import (
    read_array,
    read_npz,
    read_subset,
    read_subset_ids,
    write_npz,
    write_scores,
    write_subset,
)

SUBSET = Subset.of([3, 1, 2], weights=[2.0, 1.0, 0.5], gains=[3.0, 2.0, 1.0], requested=3, size=7)
IDS = np.array(["pear", "fig", "nut", "oat"])
SCORES = Scores.of(np.random.default_rng(0).random(50), name="el2n", seeds=2)


def subset_of(path: Path) -> Any:
    found, ids = read_subset(path), read_subset_ids(path)
    assert ids is not None
    return [found.indices.tolist(), found.weights.tolist(), ids.tolist(), found.diagnostics]


WRITTEN: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "kept.parquet": (lambda path: write_subset(path, SUBSET, IDS), subset_of),
    "kept.json": (lambda path: write_subset(path, SUBSET, IDS), subset_of),
    "s.npy": (
        lambda path: write_scores(path, SCORES),
        lambda path: read_array("scores", path).tolist(),
    ),
    "s.parquet": (
        lambda path: write_scores(path, SCORES),
        lambda path: read_array("scores", f"{path}:score").tolist(),
    ),
    "run.npz": (
        lambda path: write_npz(path, {"x": SCORES.values}),
        lambda path: read_npz(path)["x"].tolist(),
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_no_flipped_bit_changes_a_result(tmp_path: Path, name: str) -> None:
    """A bit of the seal's own name may flip: the file counts as a user's, and is what it was."""
    write, read = WRITTEN[name]
    path = tmp_path / name
    write(path)
    assert check_seal(path)
    whole, wanted = path.read_bytes(), read(path)
    random = np.random.default_rng(1)
    refused = 0
    for place in random.integers(8 * len(whole), size=120):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << int(place % 8)
        path.write_bytes(bytes(broken))
        try:
            assert read(path) == wanted
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 100


@pytest.mark.parametrize("name", ["kept.parquet", "kept.json"])
def test_a_subset_without_its_seal_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_subset(path, SUBSET, IDS)
    if name == "kept.json":
        stored = json.loads(path.read_text())
        del stored["seal"]
        path.write_text(json.dumps(stored))
    else:
        table = pq.read_table(path)
        facts = {b"hardset": table.schema.metadata[b"hardset"]}
        pq.write_table(table.replace_schema_metadata(facts), path)
    with pytest.raises(ValueError, match=f"{name} has lost its checksum"):
        read_subset(path)


def test_scores_as_an_array_say_what_they_are(tmp_path: Path) -> None:
    """NumPy does not look at the line behind the array; another line is no part of such a file."""
    path = tmp_path / "s.npy"
    write_scores(path, SCORES, command="el2n")
    np.testing.assert_array_equal(np.load(path), SCORES.values)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), SCORES.values)
    stored = json.loads(path.read_bytes().splitlines()[-1])
    assert (stored["name"], stored["command"], stored["provenance"]) == (
        "el2n",
        "el2n",
        {"seeds": 2},
    )
    assert stored["made_with"]["numpy"] == np.__version__
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    with pytest.raises(ValueError, match="has changed since it was written"):
        read_array("scores", path)
    path.write_bytes(npy_bytes(SCORES.values)[: -len(BLANK_SEAL)] + b"another line\n")
    with pytest.raises(ValueError, match="13 bytes follow"):
        read_array("scores", path)
    long = npy_bytes(SCORES.values, {"text": "x" * 2**16})
    assert len(long) == len(npy_bytes(SCORES.values))


def test_scores_as_json_are_sealed(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    write_scores(path, SCORES, command="el2n:first=2", files={"dynamics": "run.npz"})
    stored = json.loads(path.read_text())
    assert stored["command"] == "el2n:first=2"
    assert stored["files"] == {"dynamics": "run.npz"}
    assert stored["made_with"]["numpy"] == np.__version__
    assert check_seal(path)
    path.write_text(path.read_text().replace("el2n", "el2m"))
    with pytest.raises(SealError, match="has changed since it was written"):
        check_seal(path)
