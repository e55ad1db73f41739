"""Arrays of .npy files, checked before they are read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.data.opening import check_pixels, regular_file

__all__ = ["read_npy"]

MOST_CHANNELS = 4


def read_npy(path: str | Path) -> NDArray[Any]:
    """An array of numbers of two or three axes, in the byte order of this computer.

    Unlike `numpy.load` this takes neither archives nor pickles for arrays, and holds nothing before
    the header's shape is known to fit the file.

    Raises:
        ValueError: the file is none, or holds something else; says what.
        OSError: it cannot be read.
    """
    form = np.lib.format
    with regular_file(path) as file:
        try:
            version = form.read_magic(file)
            read_header = {
                (1, 0): form.read_array_header_1_0,
                (2, 0): form.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ValueError(f"version {version} of the format is not read")
            shape, fortran, kind = read_header(file)
        except Exception as error:  # the header is a Python literal, which fails in many ways
            raise ValueError(f"it is no .npy array: {' '.join(str(error).split())[:200]}") from None
        whole = all(type(one) is int and one > 0 for one in shape)
        if kind.kind not in "biuf" or not whole or len(shape) not in (2, 3):
            raise ValueError(f"holds an array of shape {_shown(shape)} and type {_shown(kind)}")
        if len(shape) == 3 and shape[2] > MOST_CHANNELS:
            raise ValueError(
                f"holds an array of shape {_shown(shape)}, not (H, W) or (H, W, 1, 3 or 4)"
            )
        check_pixels(shape[0], shape[1])
        count = int(np.prod(shape))
        content = file.read(count * kind.itemsize)
    if len(content) < count * kind.itemsize:
        raise ValueError(
            f"it ends after {len(content)} of the {count * kind.itemsize} bytes of its array"
        )
    flat = np.frombuffer(content, kind)
    found = flat.reshape(shape[::-1]).transpose() if fortran else flat.reshape(shape)
    return found if kind.isnative else found.astype(kind.newbyteorder("="))


def _shown(what: Any) -> str:
    text = str(what)
    return text if len(text) <= 100 else f"{text[:97]}..."
