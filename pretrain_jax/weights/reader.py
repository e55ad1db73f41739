"""Reads the arrays of a checkpoint of another library, whatever its format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hardset.arrays import load_arrays
from hardset.cli import printable
from pretrain_jax.weights.errors import WeightsError, names
from pretrain_jax.weights.safetensors_file import read_safetensors
from pretrain_jax.weights.torch_file import Tensor, read_torch_file

__all__ = ["read_state"]

LONGEST_MESSAGE = 1000  # characters
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
            state = load_arrays(path)
        else:
            content, read = read_torch_file(path)
            state = {name: read(tensor) for name, tensor in _tensors(content).items()}
    except MemoryError:
        raise WeightsError(f"{path}: does not fit into memory") from None
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        sentence = printable(str(error).removeprefix(str(path)).lstrip(": "), LONGEST_MESSAGE)
        raise WeightsError(f"{path}: {sentence}") from None
    if not state:
        raise WeightsError(f"{path}: holds no arrays")
    return state


def _tensors(content: Any) -> Mapping[str, Tensor]:
    """The table of tensors in what torch.save was given."""
    if not isinstance(content, dict):
        raise WeightsError(f"holds a {type(content).__name__}, not a table of tensors")
    entry = next(
        (content[name] for name in ENTRIES if isinstance(content.get(name), dict)), content
    )
    other = [name for name, value in entry.items() if not isinstance(value, Tensor)]
    if other or not entry:
        raise WeightsError(
            f"no table of tensors; the entries {names(map(str, other))} are something else, "
            f"and none is called {', '.join(ENTRIES)}"
        )
    found = {str(name): value for name, value in entry.items()}
    if len(found) != len(entry):
        raise WeightsError("two tensors have one name, once as a text and once as a number")
    return found
