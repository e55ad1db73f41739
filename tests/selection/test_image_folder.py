"""The data set `image-folder`: which files are read, and which are refused in a sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selection.experiments.datasets import DATASETS


def test_only_pictures_of_eight_bits_are_read(tmp_path: Path) -> None:
    read = DATASETS["image-folder"]
    for number, kind in enumerate(("cat", "dog")):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (8, 8), (200 * number, 0, 0)).save(tmp_path / kind / "a.png")
    (tmp_path / "cat" / ".hidden").write_bytes(b"none")
    inputs, labels = read(tmp_path)
    assert inputs.shape == (2, 32 * 32 * 3) and labels.tolist() == [0, 1]
    wrong = tmp_path / "dog" / "b.png"
    wrong.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(ValueError, match=r"b\.png cannot be read: cannot identify"):
        read(tmp_path)
    wrong.unlink()
    os.mkfifo(wrong)
    with pytest.raises(ValueError, match="it is no regular file"):
        read(tmp_path)
    wrong.unlink()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(wrong)
    with pytest.raises(ValueError, match="more than 8 bits a channel; save it with 8"):
        read(tmp_path)
    wrong.write_bytes((tmp_path / "cat" / "a.png").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"b\.png cannot be read: "):
        read(tmp_path)
