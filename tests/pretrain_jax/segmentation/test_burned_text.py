"""Writing burned into images is warned about; pictures without are not."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from pretrain_jax.segmentation import Frame
from pretrain_jax.segmentation.burned_text import frames_with_text, longest_row
from tests.pretrain_jax.segmentation.test_leakage import scene


def written(pixels: NDArray[np.uint8], text: str, size: float) -> NDArray[np.uint8]:
    picture = Image.fromarray(pixels)
    place = (0.05 * picture.width, 0.1 * picture.height)
    ImageDraw.Draw(picture).text(place, text, "white", font=ImageFont.load_default(size))
    return np.asarray(picture)


def ground() -> NDArray[np.uint8]:
    """A dark smooth scene of 480 x 600 pixels."""
    small = Image.fromarray((scene(0) * 0.6).astype(np.uint8))
    return np.asarray(small.resize((600, 480), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("text", ["DOE, JANE", "2021/03/14 09:26:53", "Pat.-Nr. 0815"])
@pytest.mark.parametrize("size", [12, 20, 32])
def test_writing_is_seen(text: str, size: float) -> None:
    assert longest_row(written(ground(), text, size)) >= 5


@pytest.mark.parametrize("name", ["ground", "retina", "immunohistochemistry", "cell", "coffee"])
def test_pictures_without_writing(name: str) -> None:
    pixels = ground() if name == "ground" else getattr(data, name)()
    assert longest_row(pixels.reshape(*pixels.shape[:2], -1)) < 5


def test_names_of_frames(tmp_path: Path) -> None:
    Image.fromarray(written(ground(), "DOE, JANE", 20)).save(tmp_path / "a.png")
    Image.fromarray(ground()).save(tmp_path / "b.png")
    frames = [Frame(name, str(tmp_path / name)) for name in ("a.png", "b.png", "missing.png")]
    assert frames_with_text(frames) == ["a.png"]
