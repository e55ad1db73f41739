"""Reads the arrays of a checkpoint of another library, whatever its format."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.weights.errors import WeightsError
from pretrain_jax.weights.safetensors_file import read_safetensors
from pretrain_jax.weights.torch_file import Tensor, read_torch_file

__all__ = ["read_state"]

# Where training checkpoints keep the weights, beside optimiser and arguments.
ENTRIES = ("model", "state_dict", "model_state_dict")


def read_state(path: str | Path) -> dict[str, NDArray]:
    """The named arrays of a checkpoint; nothing in the file is executed.

    Args:
        path: a file of torch.save (.pth, .pt, .bin; zip or legacy), .safetensors or .npz. Of a
            training checkpoint the entry "model", "state_dict" or "model_state_dict" is read.

    Returns:
        name -> read-only array, in the file's types.

    Raises:
        WeightsError: no such file, a damaged one, one that holds no arrays or more than data.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state = read_safetensors(path)
        elif path.suffix == ".npz":
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise WeightsError("this is no archive of NumPy")
                state = {name: archive[name] for name in archive.files}
        else:
            content, read = read_torch_file(path)
            state = {name: read(tensor) for name, tensor in _tensors(content).items()}
    except (WeightsError, zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise WeightsError(f"{path}: {error}") from error
    if not state:
        raise WeightsError(f"{path}: holds no arrays")
    return state


def _tensors(content: Any) -> Mapping[str, Tensor]:
    """The table of tensors in what torch.save was given."""
    if isinstance(content, dict):
        entry = next(
            (content[name] for name in ENTRIES if isinstance(content.get(name), dict)), content
        )
        other = {str(name) for name, value in entry.items() if not isinstance(value, Tensor)}
        if entry and not other:
            return {str(name): value for name, value in entry.items()}
        raise WeightsError(
            f"no table of tensors; the entries {', '.join(sorted(other))} are something else, "
            f"and none is called {', '.join(ENTRIES)}"
        )
    raise WeightsError(f"holds a {type(content).__name__}, not a table of tensors")
