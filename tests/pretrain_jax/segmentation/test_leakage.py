"""Test frames among the images for pre-training are found, others are not."""

import io
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pretrain_jax.segmentation import (
    Frame,
    LeakageError,
    SegmentationSet,
    check_leakage,
    find_leaks,
    frames_of,
    leakage,
    read_pair,
)
from pretrain_jax.segmentation.leakage import perceptual_hash
from tests.pretrain_jax.segmentation.trees import mask

SIZE = (96, 120)


def scene(seed: int) -> NDArray[np.uint8]:
    """A smooth random picture with some detail, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=(*SIZE, 3)), (9, 9, 0)) * 500
    fine = gaussian_filter(rng.normal(size=(*SIZE, 3)), (1.5, 1.5, 0)) * 30
    return np.clip(128 + smooth + fine, 0, 255).astype(np.uint8)


@pytest.fixture
def test_set(tmp_path: Path) -> SegmentationSet:
    """Four test frames."""
    root = tmp_path / "test"
    (root / "images").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(scene(number)).save(root / "images" / f"t{number}.png")
        mask(root / "masks" / f"t{number}.png", SIZE)
    return read_pair(root)


def saved(folder: Path, name: str, picture: Image.Image, **options: object) -> Frame:
    folder.mkdir(exist_ok=True)
    picture.save(folder / name, **options)
    return Frame(name, str(folder / name))


def test_other_images_do_not_leak(tmp_path: Path, test_set: SegmentationSet) -> None:
    frames = [
        saved(tmp_path / "pre", f"{seed}.png", Image.fromarray(scene(seed)))
        for seed in range(100, 200)
    ]
    assert check_leakage(frames, test_set) == 100


def test_equal_pixels_leak_whatever_the_file(tmp_path: Path, test_set: SegmentationSet) -> None:
    copy = Image.fromarray(scene(2))
    exif = Image.Exif()
    exif[0x010E] = "patient"
    frames = [
        saved(tmp_path / "pre", "a.bmp", copy),
        saved(tmp_path / "pre", "b.webp", copy, lossless=True, exif=exif),
        saved(tmp_path / "pre", "c.png", Image.fromarray(scene(50))),
    ]
    leaks = find_leaks(frames, test_set)
    assert [(leak.kind, leak.pretraining, leak.test) for leak in leaks] == [
        ("pixels", "a.bmp", "t2"),
        ("pixels", "b.webp", "t2"),
    ]
    with pytest.raises(LeakageError, match=r"1 test case\(s\) .*: a\.bmp ~ t2 \(pixels\)") as error:
        check_leakage(frames, test_set)
    assert error.value.leaks == tuple(leaks)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


ALTERED = {
    "compressed": lambda picture: jpeg(picture, 50),
    "half the size": lambda picture: picture.resize((60, 48)),
    "twice the size": lambda picture: picture.resize((240, 192)),
    "other shape": lambda picture: picture.resize((100, 100)),
    "darker": lambda picture: picture.point(lambda value: 0.7 * value),
    "more contrast": lambda picture: picture.point(lambda value: 1.2 * (value - 128) + 128),
    "grey": lambda picture: picture.convert("L"),
}


@pytest.mark.parametrize("change", ALTERED)
def test_altered_copies_leak(tmp_path: Path, test_set: SegmentationSet, change: str) -> None:
    frames = [
        saved(tmp_path / "pre", f"{n}.png", ALTERED[change](Image.fromarray(scene(n))))
        for n in range(4)
    ]
    found = find_leaks(frames, test_set)
    assert [(leak.kind, leak.test) for leak in found] == [("similar", f"t{n}") for n in range(4)]


@pytest.mark.parametrize("method", Image.Transpose)
def test_turned_copies_leak(
    tmp_path: Path, test_set: SegmentationSet, method: Image.Transpose
) -> None:
    """Pillow's seven positions but the upright one, compressed."""
    frames = [
        saved(tmp_path / "pre", f"{n}.jpg", Image.fromarray(scene(n)).transpose(method), quality=70)
        for n in (0, 3, 50)
    ]
    found = find_leaks(frames, test_set)
    assert [(leak.kind, leak.pretraining, leak.test) for leak in found] == [
        ("turned", "0.jpg", "t0"),
        ("turned", "3.jpg", "t3"),
    ]


def test_frames_of_a_test_group_leak(tmp_path: Path, test_set: SegmentationSet) -> None:
    cases = (replace(test_set.cases[0], group="video 7"), *test_set.cases[1:])
    grouped = replace(test_set, cases=cases)
    frame = saved(tmp_path / "pre", "a.png", Image.fromarray(scene(50)))
    assert not find_leaks([frame, replace(frame, group="video 8")], grouped)
    (leak,) = find_leaks([replace(frame, group="video 7")], grouped)
    assert (leak.kind, leak.test, leak.distance) == ("group", "t0", -1)


def test_unreadable_images_are_passed_over(tmp_path: Path, test_set: SegmentationSet) -> None:
    (tmp_path / "bad.png").write_bytes(b"none")
    assert find_leaks([Frame("bad", str(tmp_path / "bad.png"))], test_set) == []
    assert find_leaks([], test_set) == []


def test_one_image_is_held_at_a_time(
    tmp_path: Path, test_set: SegmentationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of test cases and of images for pre-training."""
    held: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0
    real = leakage.read_pixels

    def pixels(path: str, frame: int, *, channels: int) -> NDArray[np.uint8]:
        nonlocal most
        found = real(path, frame, channels=channels).copy()
        held.append(weakref.ref(found))
        most = max(most, sum(one() is not None for one in held))
        return found

    monkeypatch.setattr(leakage, "read_pixels", pixels)
    frames = [
        saved(tmp_path / "pre", f"{seed}.png", Image.fromarray(scene(seed)))
        for seed in range(9, 29)
    ]
    assert check_leakage(frames, test_set) == 20
    assert len(held) == 24
    assert most <= 2  # the one before lives until its name is given to the next


def test_frames_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        saved(tmp_path / "pre", name, Image.fromarray(scene(0)))
    assert [Path(frame.path).name for frame in frames_of(tmp_path / "pre")] == ["a.png", "b.png"]


def test_the_hash_is_that_of_the_cosine_transform() -> None:
    """A second derivation: the sums of cosines themselves, on an image of the hash's own size."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1)).astype(np.uint8)
    pixels = np.repeat(pixels, 3, axis=2)
    places = np.arange(32)
    waves = np.cos(np.pi * (places + 0.5) * np.arange(8)[:, None] / 32)
    waves[0] /= np.sqrt(2)
    low = (waves @ pixels[:, :, 0] @ waves.T).ravel()
    median = np.median(low[1:])
    bits = "".join("1" if value > median else "0" for value in low)
    assert int(perceptual_hash(pixels)) == int(bits, 2)
