"""Table entries of convolutions: torch puts output features first, we put them last."""

from pretrain_jax.weights.mapping import Entry

__all__ = ["convolution", "transposed_convolution"]


def convolution(path: str, key: str) -> Entry:
    """A kernel (rows, columns, inputs, outputs) stored as (outputs, inputs, rows, columns)."""
    return _permuted(path, key, (2, 3, 1, 0), (3, 2, 0, 1))


def transposed_convolution(path: str, key: str) -> Entry:
    """A kernel (inputs, rows, columns, outputs) stored as (inputs, outputs, rows, columns)."""
    return _permuted(path, key, (0, 2, 3, 1), (0, 3, 1, 2))


def _permuted(path: str, key: str, load: tuple[int, ...], save: tuple[int, ...]) -> Entry:
    return Entry(
        path,
        (key,),
        lambda arrays: arrays[0].transpose(load),
        lambda value: [value.transpose(save)],
    )
