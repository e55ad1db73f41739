"""Writing burned into images is warned about; pictures without are not."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from pretrain_jax.segmentation import Frame, burned_text
from pretrain_jax.segmentation.burned_text import Sample, frames_with_text, longest_row
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


def test_a_sample_is_evenly_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burned_text, "MOST", 5)
    for count, stride in ((0, 1), (5, 1), (6, 2), (10, 2), (11, 4), (20, 4), (21, 8), (100, 32)):
        sample = Sample()
        frames = [Frame(str(number), "") for number in range(count)]
        assert list(sample(frames)) == frames
        assert (sample.frames, sample.stride) == (frames[::stride], stride)
