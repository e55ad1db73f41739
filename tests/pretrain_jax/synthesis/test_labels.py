"""Labels from folders and lists, and the sentences where they are of no use."""

from pathlib import Path

import numpy as np
import pytest

from pretrain_jax.data import find_images
from pretrain_jax.synthesis import index_images
from pretrain_jax.synthesis.labels import read_groups, read_labels, why_no_labels
from pretrain_jax.synthesis.tables import Table, write_table
from tests.pretrain_jax.synthesis.conftest import write_images


def listed(folder: Path, labels: list[str], groups: list[str] | None = None) -> Path:
    """A list of the images, with a label and a group each."""
    names = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.png"))
    groups = groups or [""] * len(names)
    lines = ["\t".join(row) for row in zip(names, labels, groups, strict=True)]
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


def test_folders_are_labels(index: Path, image_folder: Path) -> None:
    """As `find_images` numbers them; any rows in any order."""
    known = find_images(image_folder)
    rows = np.array([7, 19, 0, 16])
    found = read_labels(index, rows)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [known.classes[known.labels[row]] for row in rows]
    assert why_no_labels(image_folder) == ""
    assert read_groups(index, rows) is None


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["a", "b", "a", "b"], ""),
        ([""] * 4, "none of the 4 images of {} has a label"),
        (["a", "", "b", ""], "2 of the 4 images of {} have no label, the first is first/02.png"),
        (["a"] * 4, "all 4 images of {} have the same label, 'a'"),
    ],
)
def test_labels_of_a_list(tmp_path: Path, labels: list[str], why: str) -> None:
    """The source and its index say the same, each with its own place."""
    source = listed(write_images(tmp_path / "data", 4), labels, ["v", "v", "", "w"])
    assert why_no_labels(source) == why.format(source)
    index_images(source, tmp_path / "index")
    found = read_labels(tmp_path / "index", np.arange(4))
    if why:
        assert found == why.format(tmp_path / "index")
    else:
        assert list(found) == labels
    groups = read_groups(tmp_path / "index", np.arange(4))
    assert groups is not None and groups[0] == groups[1] and len(set(groups.tolist())) == 3
    assert read_groups(tmp_path / "index", np.arange(1, 4)) is None


def test_sources_without_labels(tmp_path: Path) -> None:
    """An image beside the folders makes them no classes, as for `find_images`."""
    folder = write_images(tmp_path / "data", 4)
    (folder / "first/01.png").rename(folder / "01.png")
    assert find_images(folder).classes == ()
    assert (
        why_no_labels(folder) == f"1 of the 4 images of {folder} have no label, the first is 01.png"
    )
    (tmp_path / "Images/video").mkdir(parents=True)
    (folder / "01.png").rename(tmp_path / "Images/video/01.png")
    assert why_no_labels(f"ldpolypvideo:{tmp_path}") == "the layout ldpolypvideo names no classes"


def test_a_changed_label_is_found(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data", 4)
    source = listed(folder, ["a", "b", "a", "b"])
    index_images(source, tmp_path / "index")
    assert index_images(source, tmp_path / "index") is not None
    listed(folder, ["a", "b", "b", "b"])
    with pytest.raises(ValueError, match=r"image second/00\.png in .* is 'b', and was 'a'"):
        index_images(source, tmp_path / "index")


def test_an_index_of_an_earlier_version(tmp_path: Path) -> None:
    rows = {"image": np.arange(2), "name": ["a.png", "b.png"]}
    write_table(tmp_path, "part", [rows], {"image": "int64", "name": "string"})
    assert "earlier version" in str(read_labels(tmp_path, np.arange(2)))
    assert Table(tmp_path).rows == 2
