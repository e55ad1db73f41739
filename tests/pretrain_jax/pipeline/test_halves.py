"""Halves of the images for two probes: no video is in both, whatever its frames are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.pipeline.training import _files, _half, _keep_lists
from pretrain_jax.synthesis import Images, index_images


def frames(root: Path, videos: int, of_each: int) -> None:
    for number in range(videos * of_each):
        path = root / "TrainValid" / "Images" / str(number // of_each) / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(path)


def test_stills_of_a_video_are_in_one_half(tmp_path: Path) -> None:
    frames(tmp_path / "ld", 9, 5)
    index_images(f"ldpolypvideo:{tmp_path / 'ld'}", tmp_path / "index")
    images = Images(tmp_path / "index")
    videos = [Path(name).parent.name for name, _ in _files(images)]
    members = set()
    for seed in range(5):
        first, without = _half(images, seed)
        assert without == 0
        halves = [
            {v for v, one in zip(videos, chosen, strict=True) if one} for chosen in (first, ~first)
        ]
        assert not halves[0] & halves[1]
        assert sorted(map(len, halves)) == [4, 5]
        members.add(frozenset(halves[0]))
    assert len(members) > 1
    index_images(tmp_path / "ld", tmp_path / "plain")
    first, without = _half(Images(tmp_path / "plain"), 0)
    assert (without, int(first.sum())) == (45, 23)


@pytest.mark.parametrize("seed", range(6))
def test_groups_of_a_list_never_straddle(tmp_path: Path, seed: int) -> None:
    # Patients of 1 to 9 images, none of whose images follow each other; some images have none.
    random = np.random.default_rng(seed)
    owners = random.permutation(np.repeat(["", "a", "b", "c", "d"], [4, 9, 6, 2, 1]))
    lines = []
    for number, owner in enumerate(owners):
        name = f"{number:02d}.png"
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / name)
        lines.append(f"{name}\t\t{owner}\n".replace("\t\t\n", "\n"))
    (tmp_path / "all.txt").write_text("".join(lines))
    out = tmp_path / "out"
    index_images(tmp_path / "all.txt", out / "index")
    images = Images(out / "index")
    _keep_lists(out, images, halves=True, seed=seed)
    halves = [
        {Path(line).name for line in (out / name).read_text().splitlines()}
        for name in ("half-0.txt", "half-1.txt")
    ]
    assert all(halves) and not halves[0] & halves[1]
    assert sorted(halves[0] | halves[1]) == [f"{n:02d}.png" for n in range(len(owners))]
    for owner in "abcd":
        own = {f"{n:02d}.png" for n in np.flatnonzero(owners == owner)}
        assert own <= halves[0] or own <= halves[1]


def test_one_group_has_no_halves(tmp_path: Path) -> None:
    frames(tmp_path / "ld", 1, 3)
    index_images(f"ldpolypvideo:{tmp_path / 'ld'}", tmp_path / "index")
    with pytest.raises(ValueError, match="the images are of one group"):
        _half(Images(tmp_path / "index"), 0)


def test_lists_name_readable_files_only(tmp_path: Path) -> None:
    frames(tmp_path / "ld", 1, 2)
    (tmp_path / "ld" / "#cut.png").write_bytes(b"none")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "ld" / "#1.png")
    index_images(tmp_path / "ld", tmp_path / "index")
    images = Images(tmp_path / "index")
    assert _keep_lists(tmp_path / "ld", images, halves=False, seed=0) == ["full.txt"]
    listed = tmp_path / "ld" / "full.txt"
    text = "./#1.png\nTrainValid/Images/0/000.png\nTrainValid/Images/0/001.png\n"
    assert listed.read_text() == text
    # What is lost or changed is mended, what is there is left.
    assert _keep_lists(tmp_path / "ld", images, halves=False, seed=0) == []
    listed.write_text(text.replace("000", "001"))
    assert _keep_lists(tmp_path / "ld", images, halves=False, seed=0) == ["full.txt"]
    assert listed.read_text() == text
