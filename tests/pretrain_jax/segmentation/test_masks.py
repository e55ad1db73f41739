"""Mask files of every kind that data sets use."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain_jax.segmentation import SegmentationSet, read_case, read_segmentation, split
from pretrain_jax.segmentation.masks import IGNORE, read_mask
from pretrain_jax.segmentation.metrics import score_case
from pretrain_jax.segmentation.result import baselines
from tests.pretrain_jax.data.tiff_files import tiff
from tests.pretrain_jax.segmentation.trees import half

HALF = half((16, 16))


def palette(colour: tuple[int, int, int], index: int = 1) -> Image.Image:
    picture = Image.fromarray(HALF * np.uint8(index), "P")
    colours = [0, 0, 0] * 256
    colours[3 * index : 3 * index + 3] = colour
    picture.putpalette(colours)
    return picture


BINARY = {
    "0-1.png": Image.fromarray(HALF),
    "0-255.png": Image.fromarray(HALF * np.uint8(255)),
    "bits.png": Image.fromarray(HALF.astype(bool)),
    "deep.png": Image.fromarray(HALF.astype(np.uint16) * np.uint16(65535)),
    "deep-0-1.png": Image.fromarray(HALF.astype(np.uint16)),
    "deep-255.png": Image.fromarray(HALF.astype(np.uint16) * np.uint16(255)),
    "wide-255.tif": Image.fromarray(HALF.astype(np.int32) * 255),
    "wide-65535.tif": Image.fromarray(HALF.astype(np.int32) * 65535),
    "rgb.png": Image.fromarray(np.repeat(HALF[..., None] * np.uint8(255), 3, 2)),
    # Pure red has a luminance of 76: half of the full range would miss it.
    "red.png": Image.fromarray(HALF[..., None] * np.array([255, 0, 0], np.uint8)),
    "rgba.png": Image.fromarray(
        np.concatenate([np.repeat(HALF[..., None], 3, 2), np.ones((16, 16, 1), np.uint8)], 2)
        * np.uint8(255)
    ),
    "palette-red.png": palette((128, 0, 0)),
    "palette-255.png": palette((255, 255, 255), 255),
    "palette-dark.gif": palette((1, 1, 1)),
    "grey.jpg": Image.fromarray(HALF * np.uint8(255)),
    "grey.tif": Image.fromarray(HALF * np.uint8(255)),
    "grey.bmp": Image.fromarray(HALF * np.uint8(255)),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_masks(tmp_path: Path, name: str) -> None:
    BINARY[name].save(tmp_path / name)
    assert np.array_equal(read_mask(tmp_path / name, "binary", 2), HALF)


def test_noise_of_compression_is_no_foreground(tmp_path: Path) -> None:
    blob = np.zeros((64, 64), np.uint8)
    blob[20:40, 11:37] = 255
    Image.fromarray(blob).save(tmp_path / "mask.jpg", quality=30)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "mask.jpg")))) > 10
    assert np.array_equal(read_mask(tmp_path / "mask.jpg", "binary", 2), blob // 255)


def test_noise_in_a_palette_of_greys_is_no_foreground(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noisy = np.clip(HALF * 255 + rng.integers(-3, 4, HALF.shape), 0, 255).astype(np.uint8)
    pictures = {
        "grey.gif": Image.fromarray(noisy),
        "grey.png": Image.fromarray(noisy).convert("P"),
        "reduced.png": Image.fromarray(noisy).convert("RGB").quantize(9),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            assert saved.getcolors() and len(saved.getcolors()) > 2
        assert np.array_equal(read_mask(tmp_path / name, "binary", 2), HALF), name


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("shade", [0, 255])
def test_a_shape_in_the_transparency_alone_is_refused(
    tmp_path: Path, mode: str, shade: int
) -> None:
    pixels = np.full((16, 16, 4), shade, np.uint8)
    pixels[..., 3] = HALF * 255
    path = tmp_path / "mask.png"
    picture = Image.fromarray(pixels)
    if mode == "PA":  # a palette of two entries, one of which is transparent
        picture = Image.fromarray(HALF, "P")
        picture.putpalette([shade] * 6)
        picture.info["transparency"] = 0
    picture.convert("P" if mode == "PA" else mode).save(path)
    for kind in ("binary", "labels"):
        with pytest.raises(ValueError, match=f"mask {path} .* transparency only; save the mask"):
            read_mask(path, kind, 2)


def test_empty_masks_are_background(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / f"mask.{suffix}")
        assert not read_mask(tmp_path / f"mask.{suffix}", "binary", 2).any()


def test_labels_of_a_palette_are_its_indices(tmp_path: Path) -> None:
    palette((0, 0, 0), 2).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", "labels", 3), 2 * HALF)


def test_what_binary_masks_cannot_hold(tmp_path: Path) -> None:
    Image.fromarray(HALF * np.uint8(3)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="values 0, 3: neither 0 and 1 nor 0 and 255"):
        read_mask(tmp_path / "mask.png", "binary", 2)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_masks_are_turned_as_images_are(tmp_path: Path, kind: type) -> None:
    stored = np.arange(12).reshape(3, 4) % 2
    path = tmp_path / "mask.tif"
    Image.fromarray(stored.astype(kind)).save(path, tiffinfo={274: 6})
    assert np.array_equal(read_mask(path, "binary", 2), np.rot90(stored, -1))


@pytest.mark.parametrize("values", [(0, 256), (0, 65280), (0, 65792), (-255, 0)])
def test_integers_of_no_known_range(tmp_path: Path, values: tuple[int, int]) -> None:
    """65280 = 255 x 256 and 65792 = 256 x 257."""
    Image.fromarray(np.array([values], np.int32)).save(tmp_path / "mask.tif")
    with pytest.raises(ValueError, match=f"values from {values[0]} to {values[1]}: neither 0 and"):
        read_mask(tmp_path / "mask.tif", "binary", 2)
    with pytest.raises(ValueError, match="has the label"):
        read_mask(tmp_path / "mask.tif", "labels", 2)


def test_what_labels_cannot_be(tmp_path: Path) -> None:
    Image.fromarray(HALF).save(tmp_path / "mask.jpg")
    BINARY["rgb.png"].save(tmp_path / "rgb.png")
    for name, trouble in (("mask.jpg", "lossy compression"), ("rgb.png", "colours")):
        with pytest.raises(ValueError, match=trouble):
            read_mask(tmp_path / name, "labels", 2)
    (tmp_path / "mask.png").write_bytes(b"none")
    for path in (tmp_path / "mask.png", tmp_path / "missing.png"):
        with pytest.raises(ValueError, match=f"mask {path} cannot be read"):
            read_mask(path, "labels", 2)


def test_the_ignored_label_passes(tmp_path: Path) -> None:
    labels = np.where(HALF, np.uint8(IGNORE), np.uint8(1))
    Image.fromarray(labels).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", "labels", 2), labels)


@pytest.mark.parametrize("array", [HALF, HALF[..., None], HALF.astype(bool), HALF.astype(np.int64)])
def test_arrays_of_integers(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "mask.npy", array)
    for kind in ("binary", "labels"):
        assert np.array_equal(read_mask(tmp_path / "mask.npy", kind, 2), HALF)


ARRAYS = {
    "floats": np.full((4, 4), 0.5),
    "not-a-number": np.full((4, 4), np.nan),
    "negative": np.full((4, 4), -1),
    "text": np.full((4, 4), "a"),
    "number": np.uint8(1),
    "batch": np.zeros((1, 4, 4, 3), np.uint8),
    "empty": np.zeros((0, 4), np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_no_mask(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mask.npy"
    np.save(path, ARRAYS[name])
    with pytest.raises(ValueError, match=f"mask {path} holds an array of shape .* a mask is"):
        read_mask(path, "binary", 2)


@pytest.mark.parametrize("kind", ["text", "nothing", "pickle", "objects", "cut", "archive"])
def test_files_that_are_no_array(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mask.npy"
    with path.open("wb") as file:
        if kind == "archive":
            np.savez(file, mask=HALF)
        elif kind == "objects":
            np.save(file, np.array([{}], object))
        elif kind == "cut":
            np.save(file, HALF)
            file.truncate(200)
        else:
            file.write({"text": b"0 1 1 0", "nothing": b"", "pickle": pickle.dumps([1])}[kind])
    with pytest.raises(ValueError, match=f"^mask {path} cannot be read as an .npy array: [^\\n]+$"):
        read_mask(path, "binary", 2)


def grey(values: list[int], size: int = 20) -> np.ndarray:
    """Vertical stripes of the values."""
    return np.repeat(np.array(values, np.uint8), size)[None].repeat(16, 0)


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, 255],
        [0, 1, 2],
        [0, 128, 255],
        [0, 127, 255],
        [0, 254, 255],
        [1, 255],
        [0, 1, 2, 255],
        [*range(21), 255],
        [0, 85, 170, 255],
        [0, 64, 128, 192, 255],
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_more_than_two_values_are_refused(tmp_path: Path, values: list[int], deep: bool) -> None:
    pixels = grey(values).astype(np.uint16) * 257 if deep and max(values) > 2 else grey(values)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", pixels)
    for name in ("mask.png", "mask.npy"):
        with pytest.raises(ValueError, match=r"neither 0 and 1 nor 0 and 255.*class"):
            read_mask(tmp_path / name, "binary", 2)


@pytest.mark.parametrize("values", [[0, 255], [0, 1], [1], [255], [0], [0, 200], [0, 254]])
def test_two_values_are_binary(tmp_path: Path, values: list[int]) -> None:
    Image.fromarray(grey(values)).save(tmp_path / "mask.png")
    wanted = grey(values) > 0
    assert np.array_equal(read_mask(tmp_path / "mask.png", "binary", 2), wanted)


def test_smooth_edges_and_noise_stay_binary(tmp_path: Path) -> None:
    """A disc that was resized, and one that was a JPEG once."""
    rows, columns = np.indices((60, 60)) - 30
    disc = ((rows**2 + columns**2 < 400) * 255).astype(np.uint8)
    for name, method in (("a", Image.Resampling.BILINEAR), ("b", Image.Resampling.BICUBIC)):
        Image.fromarray(disc).resize((90, 90), method).save(tmp_path / f"{name}.png")
        found = read_mask(tmp_path / f"{name}.png", "binary", 2)
        assert abs(found.mean() - (disc > 0).mean()) < 0.01
    Image.fromarray(disc).save(tmp_path / "c.jpg", quality=40)
    Image.open(tmp_path / "c.jpg").save(tmp_path / "c.png")
    assert np.array_equal(read_mask(tmp_path / "c.png", "binary", 2), disc > 0)


def test_a_void_border_is_left_out_where_classes_are_named(tmp_path: Path) -> None:
    labels = np.where(HALF, np.uint8(1), np.uint8(0))
    labels[:, 7:9] = IGNORE
    for name, picture in (
        ("grey.png", Image.fromarray(labels)),
        ("palette.png", Image.fromarray(labels, "P")),
    ):
        if picture.mode == "P":
            picture.putpalette(list(range(256)) * 3)
        picture.save(tmp_path / name)
        assert np.array_equal(read_mask(tmp_path / name, "labels", 2), labels)


def test_white_is_zero_in_sixteen_bits(tmp_path: Path) -> None:
    content = tiff(65535 - HALF[..., None].astype(int) * 65535, 16, 0)
    (tmp_path / "mask.tif").write_bytes(content)
    assert np.array_equal(read_mask(tmp_path / "mask.tif", "binary", 2), HALF)


def test_a_mask_of_several_pages_or_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mask.tif").write_bytes(tiff(HALF[..., None].astype(int), 8, 1, pages=3))
    with pytest.raises(ValueError, match="several pictures; a mask is one"):
        read_mask(tmp_path / "mask.tif", "binary", 2)
    BINARY["0-1.png"].save(tmp_path / "mask.png")
    np.save(tmp_path / "mask.npy", HALF)
    monkeypatch.setenv("HARDSET_MAX_MEGAPIXELS", "0.0001")
    for name in ("mask.png", "mask.npy"):
        with pytest.raises(ValueError, match=r"16 x 16 pixels, 0\.000256 megapixels"):
            read_mask(tmp_path / name, "binary", 2)


def void_set(root: Path, classes: str = "back\nfront\n") -> SegmentationSet:
    """Six cases of a bright half with a border of 255 between it and the rest."""
    for number in range(6):
        labels = np.where(HALF, np.uint8(1), np.uint8(0))
        labels[:, 7:9] = IGNORE
        pixels = np.random.default_rng(number).integers(0, 60, (16, 16, 3)) + 150 * HALF[..., None]
        for folder, picture in (("images", pixels.astype(np.uint8)), ("masks", labels)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / folder / f"{number}.png")
    (root / "classes.txt").write_text(classes)
    return read_segmentation(root, "kvasir-seg")


def test_a_void_border_counts_in_no_score(tmp_path: Path) -> None:
    """Named classes make it void in every layout; without them the set is refused."""
    found = void_set(tmp_path)
    assert found.classes == ("back", "front") and found.kind == "labels"
    _, truth = read_case(found, found.cases[0])
    for inside in (0, 1):  # whatever is predicted in the border
        predicted = np.where(truth == IGNORE, np.uint8(inside), truth)
        score = score_case(predicted, truth, 2)
        assert score.confusion.tolist() == [[7 * 16, 0], [0, 7 * 16]]
    (tmp_path / "classes.txt").unlink()
    plain = read_segmentation(tmp_path, "kvasir-seg")
    with pytest.raises(ValueError, match=r"has the values 0, 1, 255: .*classes\.txt"):
        read_case(plain, plain.cases[0])


def test_masks_without_foreground_are_told(tmp_path: Path) -> None:
    found = void_set(tmp_path, "back\nfront\nsnare\n")
    notes: list[str] = []
    training, test = split(found)
    baselines(training, test, draws=2000, seed=0, notes=notes)
    assert [note.partition(":")[0] for note in notes] == [
        f"none of the 5 masks of the training cases of {found.name} shows the class snare",
        f"none of the 1 masks of the test cases of {found.name} shows the class snare",
    ]
    for case in found.cases:
        assert case.mask is not None
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(case.mask)
    (tmp_path / "classes.txt").unlink()
    black = read_segmentation(tmp_path, "kvasir-seg")
    notes.clear()
    baselines(*split(black), draws=2000, seed=0, notes=notes)
    assert len(notes) == 2 and all("shows any foreground" in note for note in notes)
