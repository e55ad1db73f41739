"""Folders, lists and videos: what is found, in which order, with which classes."""

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import find_images, hold_out
from pretrain_jax.data.listing import STILL
from pretrain_jax.data.names import suffix_of


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_folder_is_sorted_and_its_subfolders_are_classes(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "a/0.jpg", "b/notes.md", ".cache/x.png"):
        write_image(tmp_path / name) if name.endswith(("png", "jpg")) else (
            tmp_path / name
        ).write_text("no image")
    images = find_images(tmp_path)
    assert [Path(file).relative_to(tmp_path).as_posix() for file in images.files] == [
        "a/0.jpg",
        "a/1.png",
        "b/2.png",
    ]
    assert images.classes == ("a", "b")
    assert images.labels.tolist() == [0, 0, 1]
    assert images.locate(1) == (str(tmp_path / "a/1.png"), STILL)


def test_list_keeps_its_order_and_classes(tmp_path: Path) -> None:
    write_image(tmp_path / "x/one.png")
    listed = tmp_path / "list.txt"
    listed.write_text("# comment\nx/two.png\tpolyp\n\nx/one.png\tnone\n")
    images = find_images(listed)
    assert [Path(file).name for file in images.files] == ["two.png", "one.png"]
    assert [images.classes[label] for label in images.labels] == ["polyp", "none"]
    listed.write_text("x/one.gz\n")
    with pytest.raises(ValueError, match=r"line 1: 'x/one.gz' ends in none of"):
        find_images(listed)


def test_paths_take_the_memory_of_their_characters(tmp_path: Path) -> None:
    names = [f"videos/{number // 1000}/frame-{number:07d}.png" for number in range(20_000)]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{name}\n" for name in names))
    tracemalloc.start()
    images = find_images(listed)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # Four numbers of 8 bytes an image beside the text; a str alone has 49 bytes more.
    assert held < sum(map(len, names)) + 4 * 8 * len(names) + 200_000
    assert images.files[-1] == str(tmp_path / names[-1])
    assert images.files[1:3] == [str(tmp_path / name) for name in names[1:3]]
    assert pickle.loads(pickle.dumps(images.files))[7] == images.files[7]
    with pytest.raises(IndexError):
        images.files[len(names)]


@pytest.mark.parametrize(
    "name", ["a/b.PNG", "a.b/c", ".png", "a/.png", "b.tar.gz", "a.", "/x.y/z.Jpg", "a b.tif"]
)
def test_endings_are_those_of_paths(name: str) -> None:
    assert suffix_of(name) == Path(name).suffix.lower()


def test_classes_of_a_list_may_be_missing(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("a.png\tz\nb.png\nc.png\ta\nd.png\tz\n")
    images = find_images(listed)
    assert (images.classes, images.labels.tolist()) == (("a", "z"), [1, -1, 0, 1])


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    assert find_images(tmp_path).classes == ()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("missing", "does not exist"), ("empty", "is empty"), ("file.csv", "is neither a folder")],
)
def test_bad_sources(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.csv").write_text("")
    with pytest.raises(ValueError, match=sentence):
        find_images(tmp_path / name)


def test_hold_out_divides_files(tmp_path: Path) -> None:
    for number in range(10):
        write_image(tmp_path / f"{number}.png")
    images = find_images(tmp_path)
    training, held = hold_out(images, 0.2, seed=1)
    assert (len(training), len(held)) == (8, 2)
    assert set(training.file_index) | set(held.file_index) == set(range(10))
    assert hold_out(images, 0.2, seed=1)[1].file_index.tolist() == held.file_index.tolist()
    with pytest.raises(ValueError, match="leaves none to train on"):
        hold_out(images.take(np.array([0])), 0.5, seed=0)
