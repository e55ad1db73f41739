"""Generated trees in the layouts of published sets."""

from pathlib import Path

import numpy as np
from PIL import Image


def image(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> None:
    """A smooth random colour image of height x width pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(path)


def mask(path: Path, size: tuple[int, int] = (12, 10)) -> None:
    """A mask of 0 and 255 whose left half is foreground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(half(size) * np.uint8(255)).save(path)


def half(size: tuple[int, int] = (12, 10)) -> np.ndarray:
    """Labels: 1 in the left half."""
    labels = np.zeros(size, np.uint8)
    labels[:, : size[1] // 2] = 1
    return labels
