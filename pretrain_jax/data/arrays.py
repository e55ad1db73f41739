"""Images that are arrays in .npy files, checked before they are read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardset.arrays import ArrayFileError, load_array
from pretrain_jax.data.opening import check_pixels, regular_file

MOST_CHANNELS = 4


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read an image array, (H, W) or (H, W, 1 to 4), in native byte order.

    Raises:
        ValueError: the file is none, is too large, or holds something else; says what.
        OSError: it cannot be read.
    """
    regular_file(path).close()
    try:
        found = load_array(path, mmap=True)  # nothing is held before its size is known
    except ArrayFileError as error:
        raise ValueError(f"it {str(error).removeprefix(f'{path} ')}") from None
    shaped = found.ndim == 2 or (found.ndim == 3 and found.shape[2] <= MOST_CHANNELS)
    if found.dtype.kind not in "biuf" or not shaped or not found.size:
        raise ValueError(
            f"it holds an array of shape {found.shape} and type {str(found.dtype)[:80]}, not "
            "numbers (H, W) or (H, W, 1, 3 or 4)"
        )
    check_pixels(*found.shape[:2])
    return np.array(found)
