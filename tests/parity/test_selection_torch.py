"""A subset in PyTorch's data loaders."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from selection import (
    DynamicsRecorder,
    KCenter,
    Pool,
    SelectionSampler,
    Subset,
    TrainingDynamics,
    entropy,
)
from selection.adapters import torch_sampler, torch_subset, torch_weights

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


@pytest.mark.parametrize("by_weight", [False, True])
def test_sampler_of_nothing(by_weight: bool) -> None:
    sampler = torch_sampler(Subset.of([], requested=3), by_weight=by_weight)
    assert list(sampler) == []
    assert len(sampler) == 0


def test_sampler_by_weight_of_rows_beyond_any_multinomial() -> None:
    # torch.multinomial takes 2^24 categories at most.
    subset = Subset.of([5, 2**24 + 3, 2**40], requested=3, weights=[1.0, 0.0, 3.0])
    sampler = torch_sampler(subset, by_weight=True, seed=1)
    draws = np.array([row for _ in range(1000) for row in sampler])
    assert len(sampler) == 3
    assert set(draws.tolist()) == {5, 2**40}
    assert abs(np.mean(draws == 5) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 3000)
    with pytest.raises(ValueError, match="all weights of the subset are 0"):
        torch_sampler(Subset.of([1], requested=1, weights=[0.0]), by_weight=True)


def test_weighted_draws_follow_the_seed() -> None:
    one, other, third = (torch_sampler(SUBSET, by_weight=True, seed=s) for s in (4, 4, 5))
    draws = [[list(sampler) for _ in range(20)] for sampler in (one, other, third)]
    assert draws[0] == draws[1] != draws[2]
    # Epochs differ: the generator goes on.
    assert len({tuple(epoch) for epoch in draws[0]}) > 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_tensors_go_in(dtype: torch.dtype) -> None:
    rows = torch.tensor([[1.5, 2.0], [0.5, -1.0]], dtype=dtype, requires_grad=True)
    wanted = np.array([[1.5, 2.0], [0.5, -1.0]])
    labels = torch.tensor([1, 0])
    pool = Pool.of(
        features=rows, gradients=rows, scores=rows[:, 0], labels=labels, ids=torch.tensor([4, 9])
    )
    single = np.float64 if dtype == torch.float64 else np.float32
    assert pool.features.dtype == pool.gradients.dtype == single
    np.testing.assert_array_equal(pool.features, wanted)
    np.testing.assert_array_equal(pool.scores.values, wanted[:, 0])
    assert (pool.labels.tolist(), pool.ids.tolist()) == ([1, 0], [4, 9])
    dynamics = TrainingDynamics.of(rows, labels, rows)
    recorder = DynamicsRecorder(labels, epochs=1)
    recorder.record(0, 0, torch.tensor([0, 1]), rows, rows)
    for found in (dynamics, recorder.dynamics()):
        np.testing.assert_allclose(found.margins[0, 0], [0.5, 1.5])
        np.testing.assert_allclose(found.losses, TrainingDynamics.of(wanted, [1, 0]).losses, 1e-6)
    np.testing.assert_allclose(entropy(rows).values, entropy(wanted).values)
    sampler = SelectionSampler(KCenter(first="central"), budget=1)
    x, y = sampler.fit_resample(rows, labels)
    assert x.shape == (1, 2)
    assert y.shape == (1,)


def test_weights_of_the_whole_dataset() -> None:
    assert torch_weights(SUBSET, 10).tolist() == [0, 0, 2, 0, 5, 0, 0, 1, 0, 0]
