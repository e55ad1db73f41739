"""A subset as PyTorch's `Subset` and as a sampler for its `DataLoader`."""

from collections.abc import Iterator
from typing import Any

from selection.core.optional import require
from selection.core.selector import check_seed
from selection.core.subset import Subset

__all__ = ["torch_sampler", "torch_subset", "torch_weights"]


def torch_subset(dataset: Any, subset: Subset) -> Any:
    """`torch.utils.data.Subset` of a map-style dataset, in pick order.

    Args:
        dataset: the dataset whose row i is the pool's row i.
        subset: what to keep.

    Raises:
        ValueError: the dataset is shorter than a kept row says, or torch is not installed.
    """
    data = require("torch.utils.data", extra="parity")
    if subset.achieved and subset.indices.max() >= len(dataset):
        raise ValueError(
            f"the subset keeps row {subset.indices.max()}; the dataset has {len(dataset)} rows"
        )
    return data.Subset(dataset, subset.indices.tolist())


def torch_sampler(subset: Subset, *, by_weight: bool = False, seed: int = 0) -> Any:
    """A sampler of the whole dataset that yields kept rows only.

    Args:
        subset: what to keep.
        by_weight: whether to draw with replacement in proportion to the weights, as many as are
            kept, anew in every epoch; default each kept row once, in a random order.
        seed: of the order.

    Returns:
        A `torch.utils.data.Sampler` for `DataLoader(dataset, sampler=...)`.

    Raises:
        ValueError: torch is not installed, a negative seed, weights that are all 0.
    """
    check_seed(seed)
    torch = require("torch", extra="parity")
    data = require("torch.utils.data", extra="parity")
    random = torch.Generator().manual_seed(seed)
    if not by_weight:
        return data.SubsetRandomSampler(subset.indices.tolist(), generator=random)
    if subset.achieved and not subset.weights.any():
        raise ValueError("all weights of the subset are 0: there is nothing to draw by weight")
    # Over the kept rows alone, and by the inverse of the distribution function: PyTorch's own
    # sampler draws over all rows of the dataset, of which it takes 2^24 at most.
    rows = torch.as_tensor(subset.indices)
    ends = torch.as_tensor(subset.weights).cumsum(0)

    base: Any = data.Sampler

    class ByWeight(base):  # type: ignore[misc]  # torch has no types where it is not installed
        def __len__(self) -> int:
            return len(rows)

        def __iter__(self) -> Iterator[int]:
            if not len(rows):
                return iter(())
            places = torch.rand(len(rows), generator=random, dtype=torch.float64) * ends[-1]
            return iter(rows[torch.searchsorted(ends, places, right=True)].tolist())

    return ByWeight()


def torch_weights(subset: Subset, size: int) -> Any:
    """Weights of all rows of a dataset as a float64 tensor, 0 for those that are not kept.

    Args:
        subset: what to keep.
        size: rows of the dataset.

    Raises:
        ValueError: torch is not installed.
    """
    torch = require("torch", extra="parity")
    weights = torch.zeros(size, dtype=torch.float64)
    weights[torch.as_tensor(subset.indices)] = torch.as_tensor(subset.weights)
    return weights
