"""Proposals: stable numbers, the same whatever the shards, resumed after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardset.folder import Manifest, digest, read_manifest
from pretrain_jax.synthesis import Images, RandomCrop, Saliency, propose
from pretrain_jax.synthesis.tables import Table
from tests.pretrain_jax.synthesis.conftest import COUNT

ROOT = Path(__file__).parents[3]
CROP = RandomCrop(crops=7, least_side=8)

CHILD = """
import os, signal, sys
from pretrain_jax.synthesis import RandomCrop, propose

class Dying(RandomCrop):
    def start(self, cache):
        find, left = super().start(cache), [int(sys.argv[3])]
        def mortal(pixels, rng):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return find(pixels, rng)
        return mortal

propose(sys.argv[1], sys.argv[2], proposer=Dying(crops=7, least_side=8), shards=5)
"""


def test_numbers_and_boxes(index: Path, crops: Path) -> None:
    images, table = Images(index), Table(crops)
    rows = table.take(np.arange(table.rows))
    named = images.table.take(rows["image"], ["name", "height", "width"])
    for row in range(table.rows):
        box = [int(rows[key][row]) for key in ("top", "left", "height", "width")]
        text = f"{named['name'][row]}\0-1\0{','.join(map(str, box))}\0random-crop"
        bits = np.unpackbits(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))[:63]
        assert rows["patch"][row] == int("".join(map(str, bits)), 2)
        assert box[0] + box[2] <= named["height"][row]
        assert box[1] + box[3] <= named["width"][row]
    assert len(np.unique(rows["patch"])) == table.rows
    assert np.all(np.diff(rows["image"]) >= 0)
    for image in range(COUNT):
        own = rows["rank"][rows["image"] == image]
        assert own.tolist() == list(range(len(own)))
    counts = read_manifest(crops).counts
    assert counts["patches"] == table.rows
    assert counts["pixels"] == int(np.sum(rows["height"].astype(int) * rows["width"]))


def test_shards_do_not_change_the_rows(index: Path, crops: Path, tmp_path: Path) -> None:
    expected = Table(crops).take(np.arange(Table(crops).rows))
    for shard in (3, 0, 1, 2):
        made = propose(index, tmp_path / "p", proposer=CROP, shards=4, shard=shard)
        assert (made is None) == (shard != 2)
    found = Table(tmp_path / "p")
    rows = found.take(np.arange(found.rows))
    for name, column in expected.items():
        assert np.array_equal(rows[name], column)
    other = propose(index, tmp_path / "seed", proposer=CROP, seed=1)
    assert isinstance(other, Manifest)
    assert not np.array_equal(Table(tmp_path / "seed").column("patch"), expected["patch"])


def test_goes_on_after_a_kill(index: Path, tmp_path: Path) -> None:
    """SIGKILL in the third of five shards: two are kept, and the end is that of no kill."""
    killed = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(index), str(killed), str(2 * COUNT // 5 + 1)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    parts = {path.name: path.stat().st_mtime_ns for path in killed.glob("part-*.parquet")}
    assert sorted(parts) == ["part-00000-of-00005.parquet", "part-00001-of-00005.parquet"]
    with pytest.raises(ValueError, match="is not finished"):
        read_manifest(killed, "propose")
    after = propose(index, killed, proposer=CROP, shards=5)
    assert {name: (killed / name).stat().st_mtime_ns for name in parts} == parts
    undisturbed = propose(index, tmp_path / "whole", proposer=CROP, shards=5)
    assert after is not None
    assert undisturbed is not None
    assert digest(after) == digest(undisturbed)


def test_bad_input(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    with pytest.raises(
        ValueError, match=r"image first/02.png is 40 x 24 pixels, image .*smaller .*\(8 such"
    ):
        propose(index, out, proposer=RandomCrop(least_side=25))
    with pytest.raises(ValueError, match="pretrain_jax propose"):
        propose(tmp_path / "none", out, proposer=CROP)
    with pytest.raises(ValueError, match=r"no patch in any of 20 images: .*max_area = 0.001"):
        propose(index, out, proposer=Saliency(min_area=0.0, max_area=0.001))
    with pytest.raises(ValueError, match=r"made with parameters.max_area = 0.001, now"):
        propose(index, out, proposer=Saliency())
    propose(index, tmp_path / "good", proposer=CROP)
    with pytest.raises(ValueError, match="made with seed = 0, now seed = 1"):
        propose(index, tmp_path / "good", proposer=CROP, seed=1)
    assert (tmp_path / "good" / "contact.png").is_file()
