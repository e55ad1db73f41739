"""Files of theory and of simulation say the same of one problem."""

import json

import numpy as np
import pytest

import replica
import sims
from theory import FixedAngle, Independent, Mixture, PerceptronProblem, Window
from theory.problem import DownstreamShift

SHIFT = DownstreamShift(np.array([0.0, 0.5]), 0.0, -0.8)


@pytest.mark.parametrize(
    ("problem", "policy", "numbers"),
    [
        (PerceptronProblem(1.5, 0.8, downstream=SHIFT), {"name": "hard"}, {}),
        (
            PerceptronProblem(1.5, 0.8, policy=Window(np.array([0.0, 0.1]))),
            {"name": "window"},
            {"lo": [0.0, 0.1]},
        ),
        (
            PerceptronProblem(1.5, 0.8, FixedAngle(0.3), Mixture(0.5)),
            {"name": "mixture"},
            {"w": 0.5, "theta": 0.3},
        ),
        (
            PerceptronProblem(1.5, 0.8, Independent(1.2)),
            {"name": "hard"},
            {"alpha_probe": 1.2},
        ),
    ],
)
def test_coordinates_and_attributes_are_the_same(
    problem: PerceptronProblem, policy: dict, numbers: dict
) -> None:
    theory = replica.solve(problem).to_dataset(problem)
    simulation = sims.run(problem, 10, 2)
    assert set(simulation.coords) == set(theory.coords) | {"draw"}
    for name in theory.coords:
        assert theory[name].dims == simulation[name].dims
        np.testing.assert_array_equal(theory[name].values, simulation[name].values)
    assert set(theory.attrs) <= set(simulation.attrs)
    assert {key: simulation.attrs[key] for key in theory.attrs} == theory.attrs
    assert json.loads(simulation.attrs["policy"]) == policy
    for name, value in numbers.items():
        np.testing.assert_array_equal(simulation[name].values, value)
    for name in ("delta", "along_teacher", "along_plane"):
        np.testing.assert_array_equal(simulation[name].values, getattr(problem.downstream, name))
