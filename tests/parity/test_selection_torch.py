"""A subset in PyTorch's data loaders."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from selection import Subset
from selection.adapters.pytorch import torch_sampler, torch_subset, torch_weights

DATASET = TensorDataset(torch.arange(10))
SUBSET = Subset.of([7, 2, 4], weights=[1.0, 2.0, 5.0], requested=3)


def seen(loader: DataLoader) -> list[int]:
    return [int(one) for (batch,) in loader for one in batch]


def test_subset_in_pick_order() -> None:
    assert seen(DataLoader(torch_subset(DATASET, SUBSET), batch_size=2)) == [7, 2, 4]
    with pytest.raises(ValueError, match="keeps row 7; the dataset has 5 rows"):
        torch_subset(TensorDataset(torch.arange(5)), SUBSET)


def test_sampler_yields_kept_rows_once() -> None:
    loaders = [DataLoader(DATASET, sampler=torch_sampler(SUBSET, seed=s)) for s in (1, 1, 2)]
    orders = [seen(loader) for loader in loaders]
    assert orders[0] == orders[1]
    assert all(sorted(order) == [2, 4, 7] for order in orders)


def test_sampler_by_weight() -> None:
    sampler = torch_sampler(SUBSET, by_weight=True, seed=0)
    draws = np.array([row for _ in range(2000) for row in sampler])
    shares = np.array([np.mean(draws == row) for row in SUBSET.indices])
    # Binomial standard errors of 6,000 draws are at most .0065; four of them.
    np.testing.assert_allclose(shares, SUBSET.weights / 8, atol=0.026)


def test_weights_of_the_whole_dataset() -> None:
    assert torch_weights(SUBSET, 10).tolist() == [0, 0, 2, 0, 5, 0, 0, 1, 0, 0]
