"""The demonstration's images: cut from what packages ship, without overlap between the parts."""

from pathlib import Path

import numpy as np
from PIL import Image

from pretrain_jax.data import find_images
from pretrain_jax.data.shipped import HELD_OUT, _split, write_shipped_images


def test_tiles_of_both_parts(tmp_path: Path) -> None:
    training, validation = (
        find_images(folder) for folder in write_shipped_images(tmp_path, side=96)
    )
    assert training.classes == validation.classes == ("cell", "ihc", "mni152", "retina")
    assert min(np.bincount(training.labels)) >= 10
    assert min(np.bincount(validation.labels)) >= 4
    contents = []
    for images in (training, validation):
        tiles = set()
        for file in images.files:
            with Image.open(file) as image:
                assert image.size == (96, 96)
                tiles.add(image.tobytes())
        contents.append(tiles)
    assert not contents[0] & contents[1]
    before = {file: Path(file).stat().st_mtime_ns for file in training.files}
    write_shipped_images(tmp_path, side=96)
    assert before == {file: Path(file).stat().st_mtime_ns for file in training.files}


def test_the_held_out_band_is_contiguous_and_apart() -> None:
    rows = np.arange(100, dtype=np.uint8)
    above, held, below = _split(rows)
    assert held.tolist() == list(range(*(round(100 * share) for share in HELD_OUT)))
    assert np.concatenate([above, held, below]).tolist() == rows.tolist()
