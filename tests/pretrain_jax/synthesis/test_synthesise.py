"""Synthesised sets: every pixel, byte and source recounted from the files."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.folder import digest, read_manifest
from pretrain_jax.data import find_images
from pretrain_jax.synthesis import Images, index_images, select, synthesise
from pretrain_jax.synthesis.synthesising import cells, check_set
from pretrain_jax.synthesis.tables import Table
from tests.pretrain_jax.records import edit_record
from tests.pretrain_jax.synthesis.test_images import write_video


@pytest.fixture(scope="module")
def selection(crop_scores: Path) -> Path:
    folder = crop_scores.parents[1] / "selections" / "optidel-s-30"
    select(crop_scores, folder, method="optidel-s", ratio=0.3)
    return folder


@pytest.fixture(scope="module")
def made(selection: Path) -> Path:
    folder = selection.parents[1] / "synthesised" / "optidel-s-30"
    synthesise(selection, folder)
    return folder


@pytest.mark.parametrize("size", [(8, 8), (33, 47), (7, 5)])
@pytest.mark.parametrize("patches", [1, 4, 9])
def test_cells_tile_the_image(size: tuple[int, int], patches: int) -> None:
    covered = np.zeros(size, int)
    found = cells(size, patches)
    assert len(found) == patches
    for top, left, height, width in found:
        covered[top : top + height, left : left + width] += 1
    assert np.all(covered == 1)
    assert np.ptp([height for _, _, height, _ in found]) <= 1


def test_every_image_is_its_four_patches(
    image_folder: Path, index: Path, selection: Path, made: Path
) -> None:
    """By hand with Pillow: boxes cut, resized to cells whose edges are rounded down, pasted."""
    names = sorted(image_folder.rglob("*.png"))
    picked = Table(selection, "selection")
    rows = picked.take(np.arange(picked.rows))
    files = sorted((made / "images").iterdir())
    assert len(files) == picked.rows // 4
    for number, path in enumerate(files):
        four = range(4 * number, 4 * number + 4)
        with Image.open(names[rows["image"][4 * number]]) as first:
            width, height = first.size
        expected = Image.new("RGB", (width, height))
        for place, row in enumerate(four):
            x0, y0 = (width // 2) * (place % 2), (height // 2) * (place // 2)
            x1 = width if place % 2 else width // 2
            y1 = height if place // 2 else height // 2
            top, left, tall, wide = (int(rows[k][row]) for k in ("top", "left", "height", "width"))
            with Image.open(names[rows["image"][row]]) as source:
                part = source.crop((left, top, left + wide, top + tall))
            expected.paste(part.resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC), (x0, y0))
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(expected))


def pixels_of(path: Path) -> int:
    with Image.open(path) as image:
        return int(np.asarray(image).shape[0] * np.asarray(image).shape[1])


def test_storage_of_the_files(image_folder: Path, selection: Path, made: Path) -> None:
    """5 % storage means 5 % of the pixels: counted from the decoded files."""
    files = sorted((made / "images").iterdir())
    full = sorted(image_folder.rglob("*.png"))
    pixels, pixels_full = (sum(map(pixels_of, paths)) for paths in (files, full))
    counts = read_manifest(made).counts
    assert counts["pixels"] == pixels == read_manifest(selection).counts["pixels"]
    assert counts["pixels_full"] == pixels_full
    assert counts["storage_ratio"] == pixels / pixels_full <= 0.3
    assert counts["bytes"] == sum(path.stat().st_size for path in files)
    assert counts["bytes_full"] == sum(path.stat().st_size for path in full)
    assert (counts["images"], counts["patches"]) == (len(files), 4 * len(files))


def test_bytes_of_the_files(crop_scores: Path, index: Path, made: Path, tmp_path: Path) -> None:
    """The hardest images as long as their files are at most the ratio of the full set's bytes."""
    every = sorted((made / "images").iterdir())
    full = read_manifest(index).counts["bytes"]
    select(crop_scores, tmp_path / "s", method="optidel-s", ratio=0.3, storage="bytes")
    manifest = synthesise(tmp_path / "s", tmp_path / "w")
    files = sorted((tmp_path / "w" / "images").iterdir())
    assert 1 <= len(files) < len(every)
    assert [one.read_bytes() for one in files] == [one.read_bytes() for one in every[: len(files)]]
    taken = sum(one.stat().st_size for one in files)
    assert taken <= 0.3 * full < taken + every[len(files)].stat().st_size
    counts = manifest.counts
    assert (counts["bytes"], counts["bytes_full"], counts["bytes_ratio"]) == (
        taken,
        full,
        taken / full,
    )
    assert counts["left_out"] == len(every) - len(files)
    assert (counts["images"], counts["patches"]) == (len(files), 4 * len(files))
    assert counts["images_full"] == 20
    assert Table(tmp_path / "w", "sources").rows == counts["patches"]
    assert len(find_images(tmp_path / "w" / "data.txt")) == len(files)
    # As after a kill.
    (tmp_path / "w" / "manifest.json").unlink()
    files[0].unlink()
    assert digest(synthesise(tmp_path / "s", tmp_path / "w")) == digest(manifest)
    assert len(list((tmp_path / "w" / "images").iterdir())) == len(files)


def test_bytes_in_which_no_image_fits(crop_scores: Path, tmp_path: Path) -> None:
    """A ratio that one image of pixels fits into, but no file."""
    select(crop_scores, tmp_path / "s", method="optidel-s", ratio=0.07, storage="bytes")
    place = tmp_path / "s" / "manifest.json"
    edit_record(place, counts=read_manifest(tmp_path / "s").counts | {"bytes_full": 100})
    with pytest.raises(ValueError, match="7 bytes, in which not even its first image fits"):
        synthesise(tmp_path / "s", tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_set_that_changed_is_told(made: Path, tmp_path: Path) -> None:
    """Other bytes of the same length, a file that is gone, a list that names another."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    check_set(copy)
    first, second, third = sorted((copy / "images").iterdir())[:3]
    content = first.read_bytes()
    first.write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match=f"image {first} of the set {copy} has changed since"):
        check_set(copy)
    first.write_bytes(content)
    check_set(copy)
    third.rename(tmp_path / "away.png")
    with pytest.raises(ValueError, match=f"image {third} of the set {copy} is gone"):
        check_set(copy)
    (tmp_path / "away.png").rename(third)
    lines = (copy / "data.txt").read_text().splitlines()
    (copy / "data.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(ValueError, match=f"names 'images/{second.name}' where its stage wrote"):
        check_set(copy)


def test_images_listed_by_absolute_paths(image_folder: Path, tmp_path: Path) -> None:
    names = sorted(image_folder.rglob("*.png"))[:4]
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    index_images(tmp_path / "list.txt", tmp_path / "index")
    select(tmp_path / "index", tmp_path / "s", method="all")
    synthesise(tmp_path / "s", tmp_path / "w")
    found = [Path(one).resolve() for one in find_images(tmp_path / "w" / "data.txt").files]
    assert sorted(found) == names
    check_set(tmp_path / "w")


def test_tables(selection: Path, made: Path) -> None:
    sources, files = Table(made, "sources"), Table(made, "files")
    rows = sources.take(np.arange(sources.rows))
    picked = Table(selection, "selection").take(np.arange(sources.rows))
    assert np.array_equal(rows["synthetic"] * 4 + rows["place"], np.arange(sources.rows))
    for name in ("patch", "image", "top", "left", "height", "width", "margin"):
        assert np.array_equal(rows[name], picked[name])
    assert set(rows["proposer"]) == {"random-crop"}
    assert set(rows["seed"].tolist()) == {0}
    named = files.take(np.arange(files.rows))
    for name, size, sha in zip(named["name"], named["bytes"], named["sha256"], strict=True):
        content = (made / name).read_bytes()
        assert (size, sha) == (len(content), hashlib.sha256(content).hexdigest())


def test_training_reads_the_list(made: Path, image_scores: Path, tmp_path: Path) -> None:
    images = find_images(made / "data.txt")
    assert [Path(path).name for path in images.files] == [
        path.name for path in sorted((made / "images").iterdir())
    ]
    select(image_scores, tmp_path / "s", method="hard-images", ratio=0.5)
    manifest = synthesise(tmp_path / "s", tmp_path / "w")
    whole = find_images(tmp_path / "w" / "data.txt")
    table = Table(tmp_path / "s", "selection")
    index = Images(image_scores.parents[1] / "index")
    names = index.table.take(table.column("image"), ["name"])["name"]
    found = [Path(path).resolve() for path in whole.files]
    assert found == [index.root / name for name in names]
    assert manifest.counts["bytes"] == sum(path.stat().st_size for path in found)
    assert not (tmp_path / "w" / "images").exists()


def test_a_rerun_makes_only_what_is_missing(selection: Path, made: Path, tmp_path: Path) -> None:
    """As after a kill between two images: the others stay, and the result is the same."""
    manifest = read_manifest(made)
    again = tmp_path / "again"
    synthesise(selection, again)
    (again / "manifest.json").unlink()
    files = sorted((again / "images").iterdir())
    files[2].unlink()
    times = {path.name: path.stat().st_mtime_ns for path in files if path != files[2]}
    assert digest(synthesise(selection, again)) == digest(manifest)
    after = {path.name: path.stat().st_mtime_ns for path in (again / "images").iterdir()}
    assert {name: after[name] for name in times} == times
    assert len(after) == len(files)


def test_frames_of_videos_become_files(tmp_path: Path) -> None:
    write_video(tmp_path / "data" / "v.mp4", 6)
    index_images(tmp_path / "data", tmp_path / "index")
    select(tmp_path / "index", tmp_path / "s", method="random", ratio=0.5)
    counts = synthesise(tmp_path / "s", tmp_path / "w").counts
    files = sorted((tmp_path / "w" / "images").iterdir())
    assert [Path(p) for p in find_images(tmp_path / "w" / "data.txt").files] == files
    assert len(files) == 3
    assert counts["storage_ratio"] == 0.5
    assert counts["bytes"] == sum(path.stat().st_size for path in files)


def test_bad_input(selection: Path, index: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was made for images of 4 patches"):
        synthesise(selection, tmp_path / "s", patches=9)
    with pytest.raises(ValueError, match="is of stage index, not select"):
        synthesise(index, tmp_path / "s")
    with pytest.raises(ValueError, match="patches = 0 is outside"):
        synthesise(selection, tmp_path / "s", patches=0)
    assert list(tmp_path.iterdir()) == []
