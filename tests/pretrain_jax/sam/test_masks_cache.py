"""Masks on disk: found by content, settings and weights; written atomically; damage is noticed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.sam import SAM, GeneratorConfig, ImageMasks, MaskGenerator, MasksCache
from tests.pretrain_jax.sam.models import SMALL, random_model


class Counting(MaskGenerator):
    """A generator whose masks follow from the image at no cost."""

    def __call__(self, image: NDArray) -> ImageMasks:
        rng = np.random.default_rng(int(image.sum()))
        count = int(image[0, 0] % 4)
        return ImageMasks(
            masks=rng.random((count, *image.shape)) < 0.5,
            boxes=rng.integers(0, 9, (count, 4)).astype(np.int32),
            iou=rng.random(count).astype(np.float32),
            stability=rng.random(count).astype(np.float32),
            points=rng.random((count, 2)).astype(np.float32),
            crops=rng.integers(0, 9, (count, 4)).astype(np.int32),
        )


def equal(a: ImageMasks, b: ImageMasks) -> bool:
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def model() -> SAM:
    return random_model(SMALL, 0)


IMAGES = [np.full((9, 7), level, np.uint8) for level in (0, 1, 2, 3)]


def test_masks_come_back(model: SAM, tmp_path: Path) -> None:
    generator = Counting(model)
    first = MasksCache(generator, tmp_path / "new" / "folder")
    again = MasksCache(generator, tmp_path / "new" / "folder")
    for image in IMAGES:
        assert equal(first(image), generator(image))
        assert equal(again(image), generator(image))
    assert (first.computed, first.found) == (4, 0)
    assert (again.computed, again.found) == (0, 4)
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 4


def test_keys(model: SAM, tmp_path: Path) -> None:
    """Everything that changes masks changes the file; what changes the speed does not."""
    plain = GeneratorConfig()

    def name(model_seed: int, settings: GeneratorConfig, image: NDArray) -> str:
        generator = MaskGenerator(model if model_seed == 0 else other, settings)
        return MasksCache(generator, tmp_path).path(image).name

    other = nnx.clone(model)
    other.prompt.no_mask[...] = other.prompt.no_mask[...].at[0].add(1e-3)
    image = IMAGES[1]
    names = [
        name(0, plain, image),
        name(1, plain, image),
        name(0, dataclasses.replace(plain, max_area=0.4), image),
        name(0, plain, image.T.copy()),
        name(0, plain, image.astype(np.float32)),
        name(0, plain, IMAGES[2]),
    ]
    assert len(set(names)) == len(names)
    assert name(0, dataclasses.replace(plain, chunk=4), image) == names[0]
    assert name(0, plain, image.copy(order="F")) == names[0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damaged_files_are_computed_again(model: SAM, tmp_path: Path, damage: str) -> None:
    cache = MasksCache(Counting(model), tmp_path)
    image = IMAGES[3]
    whole = cache(image)
    path = cache.path(image)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[60] ^= 0xFF
    elif damage == "empty":
        content.clear()
    else:
        content[:] = b"not masks"
    path.write_bytes(content)
    assert equal(cache(image), whole)
    assert cache.computed == 2
    assert equal(cache(image), whole)
    assert cache.found == 1


def test_a_full_disk_keeps_earlier_files(
    model: SAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = MasksCache(Counting(model), tmp_path)
    kept = cache(IMAGES[1])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left on device; those of earlier images are kept"):
        cache(IMAGES[2])
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [cache.path(IMAGES[1]).name]
    assert equal(cache(IMAGES[1]), kept)
