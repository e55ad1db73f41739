"""Masks on disk: found by content, settings and weights; written atomically; damage is noticed."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray

from hardset.arrays import npy_bytes, npz_bytes
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


def foreign(**changes: object) -> bytes:
    """A sealed file whose arrays are not those of masks."""
    parts = {
        "masks": np.zeros(8, np.uint8),
        "shape": np.array([1, 9, 7]),
        "boxes": np.zeros((1, 4), np.int32),
        "iou": np.zeros(1, np.float32),
        "stability": np.zeros(1, np.float32),
        "points": np.zeros((1, 2), np.float32),
        "crops": np.zeros((1, 4), np.int32),
    }
    kept = {
        name: np.asarray(array) for name, array in (parts | changes).items() if array is not None
    }
    return npz_bytes(kept)


DAMAGES = {
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:60] + bytes([content[60] ^ 0xFF]) + content[61:],
    "empty": lambda _: b"",
    "no archive": lambda _: b"not masks",
    "without a seal": lambda content: content[:-79],
    "an array": lambda _: npy_bytes(np.zeros(3)),
    "no masks": lambda _: foreign(masks=None),
    "no shape": lambda _: foreign(shape=None),
    "no boxes": lambda _: foreign(boxes=None),
    "more": lambda _: foreign(extra=1),
    "shape of 2^60": lambda _: foreign(shape=[1 << 20, 1 << 20, 1 << 20]),
    "negative shape": lambda _: foreign(shape=[1, -9, -7]),
    "two axes": lambda _: foreign(shape=[9, 7]),
    "real shape": lambda _: foreign(shape=[1.0, 9.0, 7.0]),
    "more masks": lambda _: foreign(masks=np.zeros(9, np.uint8)),
    "more boxes": lambda _: foreign(boxes=np.zeros((2, 4), np.int32)),
    "other numbers": lambda _: foreign(iou=np.zeros(1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_computed_again(model: SAM, tmp_path: Path, damage: str) -> None:
    cache = MasksCache(Counting(model), tmp_path)
    image = IMAGES[3]
    whole = cache(image)
    path = cache.path(image)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert equal(cache(image), whole)
    assert cache.computed == 2
    assert equal(cache(image), whole)
    assert cache.found == 1


def test_a_whole_foreign_file_would_be_found(model: SAM, tmp_path: Path) -> None:
    """The damages above are what they say: without one the file is taken."""
    cache = MasksCache(Counting(model), tmp_path)
    cache.path(IMAGES[3]).write_bytes(foreign())
    assert not cache(IMAGES[3]).masks.any()
    assert cache.found == 1


def test_no_flipped_bit_changes_masks(model: SAM, tmp_path: Path) -> None:
    cache = MasksCache(Counting(model), tmp_path)
    image = IMAGES[3]
    whole = cache(image)
    path = cache.path(image)
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(8 * len(content), size=100):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << int(place) % 8
        path.write_bytes(changed)
        assert equal(cache(image), whole)
    assert cache.computed == 101


def test_a_folder_or_a_broken_link_in_the_place_of_a_file(model: SAM, tmp_path: Path) -> None:
    cache = MasksCache(Counting(model), tmp_path)
    cache.path(IMAGES[1]).mkdir()
    with pytest.raises(OSError, match=r"cache folder .* cannot be written: .*it is a folder"):
        cache(IMAGES[1])
    cache.path(IMAGES[2]).symlink_to(tmp_path / "elsewhere.npz")
    assert equal(cache(IMAGES[2]), cache(IMAGES[2]))
    assert (tmp_path / "elsewhere.npz").is_file()


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
