import numpy as np
import pytest

from selection.advice.spectrum import population_eigenvalues


def _sample(n: int, true: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, true.size)) * np.sqrt(true)
    x -= x.mean(axis=0)
    found = np.linalg.svd(x, compute_uv=False) ** 2 / (n - 1)
    return found[found > 1e-9 * found[0]]


@pytest.mark.parametrize("n", [120, 80, 800])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_sums_over_the_true_eigenvalues_are_found(n: int, decay: float) -> None:
    dim = 100
    true = np.arange(1, dim + 1.0) ** -decay
    true /= true.mean()
    for level in (0.05, 0.3):
        wanted = np.mean(true / (level + true))
        plain, found = [], []
        for seed in range(6):
            sample = _sample(n, true, seed)
            whole = population_eigenvalues(sample, n - 1, dim)
            assert whole.shape == (dim,)
            assert np.all(np.diff(whole) <= 0)
            assert np.all(whole > 0)
            assert whole.sum() == pytest.approx(sample.sum())
            found.append(np.mean(whole / (level + whole)))
            plain.append(np.sum(sample / (level + sample)) / dim)
        # Where n < dim the small eigenvalues leave no trace in the sample: 6 %.
        near = 0.06 if n < dim else 0.02
        assert abs(np.mean(found) / wanted - 1) < near
        assert abs(np.mean(found) - wanted) < abs(np.mean(plain) - wanted) + 1e-3


def test_equal_eigenvalues_are_found_equal() -> None:
    sample = _sample(200, np.ones(100), 0)
    assert sample.max() / sample.min() > 10
    found = population_eigenvalues(sample, 199, 100)
    # El Karoui's example: the spread of the sample is all noise.
    assert np.quantile(found, 0.95) / np.quantile(found, 0.05) < 1.35


def test_bad_eigenvalues_are_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        population_eigenvalues([1.0, 0.0], 10, 2)
    with pytest.raises(ValueError, match="dim"):
        population_eigenvalues([1.0, 2.0], 10, 1)
