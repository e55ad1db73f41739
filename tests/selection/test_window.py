"""The window of the theory against the theory's own function and a scan."""

import numpy as np
import pytest

import replica
from selection import Pool
from selection.methods.ranking import TheoryWindow
from theory import FixedAngle, PerceptronProblem, Window


def test_window_starts_where_the_theory_says() -> None:
    scores = np.random.default_rng(0).random(1000)
    found = TheoryWindow(alpha_total=10.0, theta_deg=20.0).select(Pool.of(scores=scores), 200)
    kept = np.sort(scores[found.indices])[::-1]
    first = int(np.argsort(np.argsort(-scores))[found.indices[0]])
    np.testing.assert_array_equal(kept, np.sort(scores)[::-1][first : first + 200])
    offsets = np.linspace(0, 0.8, 41)
    errors = replica.solve(
        PerceptronProblem(
            alpha_total=10.0,
            keep_fraction=0.2,
            probe=FixedAngle.degrees(20.0),
            policy=Window(offsets),
        )
    ).error
    assert found.diagnostics["theory_error"] <= np.min(errors) * (1 + 1e-9)
    assert abs(first / 1000 - offsets[np.argmin(errors)]) <= 0.02 + 1e-9
    assert found.diagnostics["theory_error_hard"] == pytest.approx(float(errors[0]), rel=1e-8)


def test_all_of_the_data() -> None:
    pool = Pool.of(scores=np.arange(30.0))
    assert TheoryWindow(3.0).select(pool, 30).indices.tolist() == list(range(29, -1, -1))


def test_range_of_the_coordinates() -> None:
    with pytest.raises(ValueError, match=r"alpha_total = 0 is outside the valid range \(0, inf\)"):
        TheoryWindow(0.0)
    with pytest.raises(ValueError, match=r"theta_deg = 91 is outside the valid range \[0, 90\]"):
        TheoryWindow(1.0, 91.0)
