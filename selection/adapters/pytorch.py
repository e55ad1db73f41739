"""A subset as PyTorch's `Subset` and as a sampler for its `DataLoader`."""

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
            kept; default each kept row once, in a random order.
        seed: of the order.

    Returns:
        A `torch.utils.data.Sampler` for `DataLoader(dataset, sampler=...)`.

    Raises:
        ValueError: torch is not installed, or a negative seed.
    """
    check_seed(seed)
    torch = require("torch", extra="parity")
    data = require("torch.utils.data", extra="parity")
    random = torch.Generator().manual_seed(seed)
    rows = subset.indices.tolist()
    if not by_weight:
        return data.SubsetRandomSampler(rows, generator=random)
    # Its rows are positions among all examples up to the last kept one: others weigh nothing.
    weights = torch.zeros(max(rows) + 1, dtype=torch.float64)
    weights[subset.indices] = torch.as_tensor(subset.weights)
    return data.WeightedRandomSampler(weights, len(rows), replacement=True, generator=random)


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
