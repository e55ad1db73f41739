"""Makes a segmentation set of real images that other packages ship.

It also makes images for pre-training.

The segmentation set consists of axial slices of the MNI152 T1 template of nilearn with three
classes from its tissue probabilities. A contiguous block of slices is the test part. The template
is nearly mirror-symmetric: halves of one slice, or slices in turn, would be no independent parts.
Between the block and everything else lies a gap, and no image for pre-training, of whatever
orientation, shows a voxel of block or gap. Files are read by path.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer, require
from hardset.datafile import write_text_atomic
from pretrain_jax.data.shipped import package_folder, tiles
from pretrain_jax.pictures import write_png
from pretrain_jax.segmentation.layouts import CASES_NAME, CLASSES_NAME

Pixels = NDArray[np.uint8]

TISSUES = ("background", "grey matter", "white matter")
# Voxels are cubes of 1 mm. z counts them from below, and all of these count voxels.
TEST_BLOCK = (30, 70)
GAP = 8
STEP = 2
GROUP = 8
ORIENTATION_STEP = 4
LEAST_TISSUE = 0.02  # of a slice's pixels that must be of a tissue
LEAST_SPREAD = 6.0
# Each file is reduced by its factor, so that tiles show structures and sources balance.
PICTURES = {"retina.jpg": 2, "ihc.png": 1, "cell.png": 1, "microaneurysms.png": 1}


class Shipped(NamedTuple):
    """Says where the data lie.

    Attributes:
        pretraining: folder of images for pre-training, a subfolder for each source.
        segmentation: folder that `read_segmentation` reads, with a published split.
    """

    pretraining: Path
    segmentation: Path


class _Volume(NamedTuple):
    """Holds intensity and tissue probabilities of a volume.

    They are (z, y, x) and (z, y, x, 3), both uint8.
    """

    intensity: Pixels
    tissue: Pixels


def write_shipped_segmentation(folder: str | Path, *, side: int = 64) -> Shipped:
    """Write PNG files to `folder`/mni152-tissue and `folder`/pretraining.

    Args:
        folder: created; files that are there already are kept.
        side: of the segmentation's images; those for pre-training have twice that.

    Raises:
        ValueError: a package that ships images is not installed, or `side` is out of range.
    """
    check_integer("side", side, 16, 197)
    root = Path(folder)
    volume = _read_volume()
    found = Shipped(root / "pretraining", root / "mni152-tissue")
    rows = [("name", "group", "part")]
    for part, chosen in _blocks(len(volume.intensity)):
        for z in chosen:
            intensity, labels = _slice(volume, z, side)
            if np.mean(labels > 0) < LEAST_TISSUE:
                continue
            name = f"axial-{z:03d}"
            _write(found.segmentation / "images" / f"{name}.png", intensity)
            _write(found.segmentation / "masks" / f"{name}.png", labels)
            # Neighbouring slices are alike.
            first = z - (z - TEST_BLOCK[0]) % GROUP
            rows.append((name, f"{part} from {first}", part))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text_atomic(found.segmentation / CASES_NAME, text.getvalue())
    write_text_atomic(found.segmentation / CLASSES_NAME, "\n".join(TISSUES) + "\n")
    for source, image in _pretraining(volume, 2 * side):
        _write(found.pretraining / f"{source}.png", image)
    return found


def _blocks(slices: int) -> Iterator[tuple[str, range]]:
    """Return the slices of each part.

    They are those of the training part below and above the block, and of the test part.
    """
    low, high = TEST_BLOCK
    yield "training", range(0, low - GAP, STEP)
    yield "training", range(high + GAP, slices, STEP)
    yield "test", range(low, high, STEP)


def _slice(volume: _Volume, z: int, side: int) -> tuple[Pixels, Pixels]:
    """Return a square slice and its labels.

    The shape is (side, side). The label of a pixel is its most probable class.
    """
    planes = [volume.intensity[z], *np.moveaxis(volume.tissue[z], -1, 0)]
    intensity, *tissue = [_resized(_square(plane), side) for plane in planes]
    return intensity, np.argmax(np.stack(tissue), axis=0).astype(np.uint8)


def _pretraining(volume: _Volume, side: int) -> Iterator[tuple[str, Pixels]]:
    """Return name and pixels of every image for pre-training."""
    for part, chosen in _blocks(len(volume.intensity)):
        for z in chosen if part == "training" else ():
            plane = _resized(_square(volume.intensity[z]), side)
            if plane.std() >= LEAST_SPREAD:
                yield f"mni152-axial/{z:03d}", plane
    # These slices lie above the gap; what lies below it is too flat for the other orientations.
    above = volume.intensity[TEST_BLOCK[1] + GAP :][::-1]
    for name, axis in (("coronal", 1), ("sagittal", 2)):
        for place in range(0, above.shape[axis], ORIENTATION_STEP):
            plane = np.take(above, place, axis=axis)
            for number, tile in enumerate(tiles(plane, len(plane))):
                yield f"mni152-{name}/{place:03d}-{number}", _resized(tile, side)
    for source, pixels in _pictures():
        if min(pixels.shape[:2]) < side:
            yield f"{source}/000", _resized(pixels, side)
            continue
        for number, tile in enumerate(tiles(pixels, side)):
            yield f"{source}/{number:03d}", tile


def _pictures() -> Iterator[tuple[str, Pixels]]:
    from PIL import Image

    folder = package_folder("skimage", "scikit-image") / "data"
    for name, factor in PICTURES.items():
        with Image.open(folder / name, formats=["PNG", "JPEG"]) as image:
            mode = "L" if image.mode in ("1", "L") else "RGB"
            yield Path(name).stem, np.asarray(image.convert(mode).reduce(factor))
    yield from _histology()


def _histology() -> Iterator[tuple[str, Pixels]]:
    """Return the stained tissue and the nuclei that stardist ships.

    There are none where it is not installed.
    """
    import importlib.util

    spec = importlib.util.find_spec("stardist")
    places = spec.submodule_search_locations if spec is not None else None
    if places:
        yield from _stardist_images(Path(places[0]) / "data" / "images")


def _stardist_images(folder: Path) -> Iterator[tuple[str, Pixels]]:
    import tifffile
    from PIL import Image

    with Image.open(folder / "histo.jpg", formats=["PNG", "JPEG"]) as image:
        yield "histology", np.asarray(image.convert("RGB"))
    nuclei = np.asarray(tifffile.imread(folder / "img2d.tif"), np.float64)
    # In the 16 bits the brightest pixels would leave the others dark.
    low, high = np.percentile(nuclei, (1, 99.8))
    yield "nuclei", np.rint(np.clip((nuclei - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _read_volume() -> _Volume:
    nifti = require("nibabel.nifti1", "pretrain,demo")
    folder = package_folder("nilearn", "nilearn") / "datasets" / "data"
    arrays = []
    for name in ("t1", "gm", "wm"):
        path = folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
        image = nifti.load(path)
        arrays.append(np.asarray(image.dataobj, np.uint8).transpose(2, 1, 0))
    intensity, grey, white = arrays
    other = 255 - np.minimum(grey.astype(np.int16) + white, 255)
    return _Volume(intensity, np.stack([other.astype(np.uint8), grey, white], axis=-1))


def _square(plane: Pixels) -> Pixels:
    """Put a plane in the middle of a black square.

    Its first row is at the top (front of the head).
    """
    height, width = plane.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = plane[::-1]
    return square


def _resized(pixels: Pixels, side: int) -> Pixels:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC))


def _write(path: Path, pixels: Pixels) -> None:
    if not path.exists():
        write_png(path, pixels)
