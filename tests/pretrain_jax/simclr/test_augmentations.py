"""Random views: each transformation against NumPy or the standard library, alone."""

import colorsys
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from pretrain_jax.models.simclr import Augmentation, random_views
from pretrain_jax.models.simclr.modeling import turn_hue

NOTHING = Augmentation(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
IMAGES = np.random.default_rng(0).random((4, 12, 10, 3)).astype(np.float32)
NUMBERS = np.arange(4)
DRAW = jax.jit(random_views, static_argnums=3)


def views(images: np.ndarray = IMAGES, **fields: object) -> np.ndarray:
    """First views with only some transformations."""
    augmentation = dataclasses.replace(NOTHING, **fields)
    return np.asarray(
        random_views(jax.random.key(0), NUMBERS, jnp.asarray(images), augmentation)[0]
    )


def test_nothing_changes_nothing() -> None:
    np.testing.assert_allclose(views(), IMAGES, atol=1e-6)


def test_flip() -> None:
    np.testing.assert_allclose(views(flip=1.0), IMAGES[:, :, ::-1], atol=1e-6)
    kept = np.isclose(views(np.repeat(IMAGES[:1], 4, 0), flip=0.5), IMAGES[0], atol=1e-5)
    assert 0 < kept.all(axis=(1, 2, 3)).sum() < 4


def test_grey() -> None:
    luma = IMAGES @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(views(grey=1.0), np.repeat(luma[..., None], 3, -1), atol=1e-5)


def test_hue_against_the_standard_library() -> None:
    """HSV of colorsys; grey pixels and ties of two channels included."""
    pixels = np.concatenate([IMAGES[0].reshape(-1, 3), [[0.3] * 3, [0.5, 0.5, 0.1], [0, 0, 0]]])
    for turn in (-0.2, 0.0, 0.13):
        turned = turn_hue(jnp.asarray(pixels, jnp.float32), jnp.asarray(turn))
        expected = []
        for pixel in pixels:
            hue, saturation, value = colorsys.rgb_to_hsv(*map(float, pixel))
            expected.append(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
        np.testing.assert_allclose(turned, expected, atol=2e-6)


def test_blur_of_a_fixed_width() -> None:
    """Away from the edges, where kernels are cut and renormalised, it is SciPy's filter."""
    blurred = views(blur=1.0, blur_sigma=(1.0, 1.0), blur_radius=0.3)
    expected = scipy.ndimage.gaussian_filter(IMAGES, (0, 1.0, 1.0, 0), radius=(0, 4, 3, 0))
    np.testing.assert_allclose(blurred[:, 4:-4, 3:-3], expected[:, 4:-4, 3:-3], atol=1e-5)
    np.testing.assert_allclose(views(np.ones_like(IMAGES), blur=1.0), 1.0, atol=1e-5)


def test_crops_are_boxes_of_the_drawn_area() -> None:
    """On a ramp the crop's mean slope is the box's share of the side."""
    size = 64
    ramp = np.linspace(0, 1, size, dtype=np.float32)
    images = np.broadcast_to(
        np.stack([*np.meshgrid(ramp, ramp, indexing="ij"), np.zeros((size, size))], -1),
        (4, size, size, 3),
    )
    cropped = views(images, area=(0.25, 0.25), aspect=(0.5, 2.0))
    # Pixels at the image's border are extrapolated: the inner half is compared.
    inner = cropped[:, size // 4 : -size // 4, size // 4 : -size // 4]
    down = (inner[:, -1, :, 0] - inner[:, 0, :, 0]).mean(1) / (size / 2 - 1) * (size - 1)
    across = (inner[:, :, -1, 1] - inner[:, :, 0, 1]).mean(1) / (size / 2 - 1) * (size - 1)
    np.testing.assert_allclose(down * across, 0.25, rtol=1e-3)
    assert np.all((across / down > 0.499) & (across / down < 2.001))
    assert len(np.unique(np.round(across / down, 4))) == 4


def test_colours_stay_in_range_and_grey_images_stay_grey() -> None:
    jittered = views(jitter=1.0)
    assert jittered.min() >= 0 and jittered.max() <= 1
    assert np.abs(jittered - IMAGES).mean() > 0.05
    one = views(IMAGES[..., :1], jitter=1.0, grey=0.5, blur=0.5)
    assert one.shape == (4, 12, 10, 1)


def test_views_depend_on_key_and_number_alone() -> None:
    """Another order and another batch give the same views; two views of an image differ."""
    key, augmentation = jax.random.key(3), Augmentation()
    first, second = DRAW(key, NUMBERS, IMAGES, augmentation)
    order = np.array([2, 0])
    again = DRAW(key, NUMBERS[order], IMAGES[order], augmentation)
    # Another batch size is another program, whose sums may round differently.
    np.testing.assert_allclose(again[0], first[order], atol=1e-5)
    np.testing.assert_allclose(again[1], second[order], atol=1e-5)
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"area": (0.5, 0.1)}, "smaller number"), ({"flip": 1.5}, "flip = 1.5"), ({"hue": 1}, "hue")],
)
def test_bad_augmentations(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**fields)
