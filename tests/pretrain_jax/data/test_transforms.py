"""Crops against Pillow, and their distribution against its definition."""

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.data import Crop, MixedSizesError

RNG = np.random.default_rng(0)


def test_centre_is_pillows_fit() -> None:
    pixels = RNG.integers(0, 256, (40, 61, 3), dtype=np.uint8)
    found = Crop(16, kind="centre")(pixels, RNG)
    box = (10.5, 0, 50.5, 40)
    expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_sixteen_bits_follow_eight() -> None:
    pixels = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    narrow = Crop(16)(pixels, np.random.default_rng(5))
    wide = Crop(16)(pixels.astype(np.uint16) * 257, np.random.default_rng(5))
    assert wide.dtype == np.uint16
    # Half a level of 8 bits, and Pillow's fixed-point weights there.
    assert np.abs(wide / 257 - narrow).max() <= 1.0


def test_random_crops_have_the_area_and_ratio_they_should() -> None:
    """On a coordinate image a crop's corners tell its box."""
    rows, columns = np.meshgrid(np.arange(400), np.arange(400), indexing="ij")
    pixels = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint16) * 100
    crop = Crop(32, flip=False)
    areas, ratios = [], []
    for seed in range(300):
        found = crop(pixels, np.random.default_rng(seed)).astype(float) / 100
        height, width = (float(np.ptp(found[:, :, c])) * 32 / 31 for c in (0, 1))
        areas.append(height * width / 400**2)
        ratios.append(np.log(width / height))
    # Crops that do not fit are drawn again, which favours small ones: wide intervals.
    assert 0.19 < min(areas) < 0.25 and 0.9 < max(areas) < 1.01
    assert abs(np.mean(areas) - 0.58) < 0.05
    assert max(np.abs(ratios)) < np.log(4 / 3) + 0.02
    # Uniform in the logarithm is symmetric: mean 0 within 4 standard errors.
    assert abs(np.mean(ratios)) < 4 * np.std(ratios) / np.sqrt(300)


def test_flips_half_of_the_time() -> None:
    pixels = np.zeros((20, 20, 1), np.uint8)
    pixels[:, 10:] = 200
    crop = Crop(20, scale=(0.999, 1.0), ratio=(1.0, 1.0))
    flipped = [crop(pixels, np.random.default_rng(seed))[10, 2, 0] > 100 for seed in range(200)]
    # Binomial(200, 1/2): 4 standard deviations are 28.
    assert abs(sum(flipped) - 100) < 28


def test_none_refuses_another_size() -> None:
    crop = Crop(16, kind="none")
    pixels = np.zeros((16, 16, 3), np.uint8)
    assert crop(pixels, RNG) is pixels
    with pytest.raises(MixedSizesError, match=r"a.png is 16 x 17 pixels .* takes 16 x 16"):
        crop(np.zeros((16, 17, 3), np.uint8), RNG, "a.png")


def test_extreme_shapes_still_crop() -> None:
    assert Crop(8)(np.zeros((2, 900, 3), np.uint8), RNG).shape == (8, 8, 3)
