"""The state of the page: checked, and the same after a URL; its command and Python reproduce it."""

import dataclasses
import json
import shlex
from typing import Any

import numpy as np
import pytest

from figures.explorer import curves
from figures.explorer.state import POLICIES, STUDENTS, State
from hardset.cli import run
from replica.__main__ import main

NOISY = State(
    alpha_total=3.7,
    theta_deg=12.3456789012345,
    downstream_deg=5.0,
    flip=0.1,
    loss="squared-hinge",
    lam=0.3,
    policy=("hard", "random"),
    lowest=0.05,
    keep_fraction=0.4,
)
PLAIN = State(redundancy=3, policy=("hard", "easy"))
OWN = State(policy=("window", "mixture"), lo=0.123456789012345, w=0.7)


@pytest.mark.parametrize("state", [State(), PLAIN, NOISY, OWN])
def test_a_query_holds_the_state_to_the_last_digit(state: State) -> None:
    assert State.of_query(f"?{state.query()}") == state
    assert State.of_query("") == State()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("theta_deg=91", ["theta_deg = 91", "[0, 90] degrees"]),
        ("theta_deg=nan", ["theta_deg = nan"]),
        ("alpha_total=0", ["alpha_total = 0", "0.1"]),
        ("alpha_total=five", ["alpha_total = 'five' is not a number"]),
        ("alpha_total=", ["alpha_total = '' is not a number"]),
        ("redundancy=1.5", ["redundancy = 1.5 is not a whole number"]),
        ("keep_fraction=.01", ["keep_fraction = 0.01", "[0.02, 1]"]),
        ("policy=best", ["policy = 'best' is not one of hard"]),
        ("policy=power", ["policy = 'power' is not one of hard"]),
        ("lo=1.5", ["lo = 1.5", "[0, 1]"]),
        ("policy=window&lo=0.97", ["lo = 0.97", "[0, 0.96]"]),
        ("w=-1", ["w = -1", "[0, 1]"]),
        ("policy=hard&policy=hard", ["names a policy twice"]),
        ("loss=exp", ["loss = 'exp' is not one of max-margin"]),
        ("theta=5", ["the address names 'theta'"]),
    ],
)
def test_a_wrong_query_is_one_sentence(query: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        State.of_query(query)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="policy is empty"):
        State(policy=())


def test_the_words_are_those_of_the_commands() -> None:
    named = {"hard", "easy", "random", "moderate", "hard-signed", "easy-signed"}
    assert named | {"window", "window-signed", "mixture"} == set(POLICIES)
    assert STUDENTS[0] == "max-margin" and "logistic" in STUDENTS


@pytest.mark.parametrize("state", [PLAIN, NOISY, OWN])
def test_the_command_line_gives_the_shown_errors(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = state.command().splitlines()
    assert len(lines) == len(state.policy)
    for name, line in zip(state.policy, lines, strict=True):
        front, package, *rest = shlex.split(line)
        assert (front, package) == ("hardset", "replica")
        assert run(main, rest) == 0
        printed = json.loads(capsys.readouterr().out)
        np.testing.assert_allclose(
            [one["error"] for one in printed], curves.curve(state, name).error, rtol=1e-12
        )


@pytest.mark.parametrize("state", [PLAIN, NOISY, OWN])
def test_the_python_lines_give_the_shown_numbers(state: State) -> None:
    made: dict[str, Any] = {}
    exec(compile(state.python(), "copied", "exec"), made)
    best = curves.marks(state, curves.curves(state))
    assert (made["window_lo"], made["window_error"]) == (best.window_lo, best.window_error)
    for name in state.policy:
        shown = curves.curve(state, name)
        np.testing.assert_allclose(made["error"][name], shown.error, rtol=1e-12)
        np.testing.assert_array_equal(made["keep_fraction"][name], shown.keep_fraction)
        np.testing.assert_array_equal(made["share"][name], shown.share)
        # The page polishes its own scan: the least error is the same, and flat around the minimum.
        np.testing.assert_allclose(made["least_error"][name], best.least_error[name], rtol=1e-9)
        np.testing.assert_allclose(made["best_fraction"][name], best.best_fraction[name], rtol=1e-4)


def test_the_python_lines_give_the_shown_points() -> None:
    state = dataclasses.replace(PLAIN, policy=("hard",), redundancy=1)
    made: dict[str, Any] = {}
    exec(compile(state.python(dim=10, draws=2), "copied", "exec"), made)
    shown = [float(one["hard"]["error_mean"].item()) for one in curves.simulate(state, 10, 2)]
    np.testing.assert_array_equal(np.ravel(made["simulated"]["hard"]["error_mean"]), shown)
