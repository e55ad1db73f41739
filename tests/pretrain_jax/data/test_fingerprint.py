"""Sets are told apart by names, sizes and order, wherever they lie."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pretrain_jax.data import find_images
from pretrain_jax.data.sources import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("a/1.png", 3), ("a/2.png", 4), ("b/3.png", 5)):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x" * size)
    return tmp_path / "set"


def test_the_place_does_not_matter(folder: Path, tmp_path: Path) -> None:
    here = fingerprint(find_images(folder))
    shutil.copytree(folder, tmp_path / "elsewhere" / "b")
    there = fingerprint(find_images(tmp_path / "elsewhere" / "b"))
    assert (here.images, here.digest) == (3, there.digest)
    newest = max(folder.rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    assert here.newest == newest.stat().st_mtime_ns
    assert Path(here.newest_file).stat().st_mtime_ns == here.newest


@pytest.mark.parametrize("change", ["size", "name", "gone", "added", "order", "missing"])
def test_another_set(folder: Path, change: str) -> None:
    images = find_images(folder)
    before = fingerprint(images)
    match change:
        case "size":
            (folder / "a/1.png").write_bytes(b"xx")
        case "name":
            (folder / "a/1.png").rename(folder / "a/0.png")
        case "gone" | "missing":
            (folder / "a/1.png").unlink()
        case "added":
            (folder / "b/4.png").write_bytes(b"x")
    if change != "missing":
        images = find_images(folder)
    if change == "order":
        images = images.take(np.array([1, 0, 2]))
    assert fingerprint(images).digest != before.digest


def test_of_a_part_only_its_files_count(folder: Path) -> None:
    part = find_images(folder).take(np.array([0, 2]))
    before = fingerprint(part)
    (folder / "a/2.png").write_bytes(b"longer")
    assert fingerprint(find_images(folder).take(np.array([0, 2]))).digest == before.digest
    (folder / "b/3.png").write_bytes(b"longer")
    assert fingerprint(find_images(folder).take(np.array([0, 2]))).digest != before.digest
