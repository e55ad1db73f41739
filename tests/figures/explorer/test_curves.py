"""The numbers of the page against the solver point by point, chance and integrals."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize, stats

import replica
from figures.explorer import curves
from figures.explorer.state import MAX_MARGIN, State
from hardset.compilation import compiled_seconds
from theory.labels import Clean, Flip
from theory.policies import Easy, Hard, Random, Window
from theory.problem import DownstreamShift, FixedAngle, PerceptronProblem
from theory.students import ERM, MaxMargin

NOISY = State(
    alpha_total=20.0,
    theta_deg=10.0,
    downstream_deg=3.0,
    flip=0.1,
    loss="squared-hinge",
    lam=0.3,
    policy=("hard", "random"),
)


def alone(state: State, policy: object, keep_fraction: float) -> float:
    """The error of one point, its problem written out."""
    plain = state.loss == MAX_MARGIN
    solution = replica.solve(
        PerceptronProblem(
            alpha_total=state.alpha_total,
            keep_fraction=keep_fraction,
            probe=FixedAngle(np.pi * state.theta_deg / 180),
            policy=policy,  # type: ignore[arg-type]
            redundancy=state.redundancy,
            downstream=DownstreamShift(delta=np.tan(np.pi * state.downstream_deg / 180)),
            student=MaxMargin() if plain else ERM(state.loss, state.lam),
            labels=Clean() if plain else Flip(state.flip),
        ),
        throw=True,
    )
    return float(solution.error)


@pytest.mark.parametrize("state", [State(policy=("hard", "random"), redundancy=2), NOISY])
def test_curves_are_the_solver_point_by_point(state: State) -> None:
    found = curves.curves(state)
    assert list(found) == ["hard", "random"]
    for name, policy in (("hard", Hard()), ("random", Random())):
        grid = found[name].keep_fraction
        assert grid[0] == state.lowest and grid[-1] == 1.0 and grid.shape == (41,)
        assert np.all(found[name].status == 0)
        for k in (0, 17, 40):
            expected = alone(state, policy, float(grid[k]))
            assert found[name].error[k] == pytest.approx(expected, rel=1e-9)


def test_a_coarse_curve_and_its_refinement_are_the_curve() -> None:
    state = State(policy=("hard", "window"), lo=0.3)
    coarse, whole = curves.coarse_curves(state), curves.curves(state)
    refined = curves.refined(state, coarse)
    for name in state.policy:
        assert coarse[name].error.shape == (11,)
        assert coarse[name].keep_fraction[-1] == whole[name].keep_fraction[-1]
        np.testing.assert_array_equal(coarse[name].error, whole[name].error[::4])
        for part in ("keep_fraction", "error", "status", "share"):
            np.testing.assert_array_equal(getattr(refined[name], part), getattr(whole[name], part))


def test_windows_and_mixtures_meet_the_policies_that_they_turn_into() -> None:
    state = State(policy=("easy", "hard", "random", "window", "mixture"), lo=0.4, w=0.0)
    found = curves.curves(state)
    window = found["window"]
    # What a window keeps at its last fraction is all from its rank on, the easy ones.
    assert window.keep_fraction[-1] == 0.6 and np.all(window.status == 0)
    assert window.error[-1] == pytest.approx(alone(state, Easy(), 0.6), rel=1e-9)
    np.testing.assert_allclose(found["mixture"].error, found["random"].error, rtol=1e-9)
    other = dataclasses.replace(state, lo=0.0, w=1.0)
    for name in ("window", "mixture"):
        np.testing.assert_allclose(curves.curve(other, name).error, found["hard"].error, rtol=1e-9)


def test_the_best_fraction_of_a_window_is_sought_up_to_its_end() -> None:
    state = State(policy=("window",), lo=0.2)
    best = curves.marks(state, curves.curves(state))
    other = replica.optimal_fraction(5.0, np.deg2rad(20.0), Window(0.2), lowest=0.02)
    assert best.best_fraction["window"] == pytest.approx(float(other.least_fraction), rel=1e-4)
    assert best.least_error["window"] == pytest.approx(float(other.least_error), rel=1e-9)


def test_a_search_that_nobody_waits_for_is_given_up() -> None:
    state = State(policy=("hard", "random"))
    found = curves.curves(state)

    def give_up() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        curves.marks(state, found, give_up)


def test_the_best_fraction_is_a_minimum_that_another_search_finds() -> None:
    found = curves.marks(NOISY, curves.curves(NOISY))
    other = optimize.minimize_scalar(
        lambda f: alone(NOISY, Hard(), f), bounds=(0.1, 0.95), method="bounded"
    )
    assert 0.1 < found.best_fraction["hard"] < 0.9
    assert found.least_error["hard"] == pytest.approx(other.fun, rel=1e-8)
    assert found.best_fraction["hard"] == pytest.approx(other.x, rel=1e-3)


def test_the_best_window_is_no_worse_than_both_ends() -> None:
    state = State(alpha_total=20.0, theta_deg=30.0)
    found = curves.curves(state)
    grid = found["hard"].keep_fraction
    best = curves.marks(state, found)
    hard = np.interp(state.keep_fraction, grid, found["hard"].error)
    easy = np.interp(state.keep_fraction, grid, found["easy"].error)
    assert 0 <= best.window_lo <= 1 - state.keep_fraction
    assert best.window_error <= min(hard, easy) * (1 + 1e-3)  # interpolated between 41 fractions


def test_where_no_student_exists_there_is_no_error() -> None:
    found = curves.curve(State(alpha_total=50.0, flip=0.2, policy=("random",)), "random")
    assert np.all(np.isnan(found.error) == (found.status != 0))
    assert np.isnan(found.error[-1]) and found.status[-1] == replica.Status.NOT_SEPARABLE


@pytest.mark.parametrize(
    ("policy", "flip", "copies"),
    [
        ("hard", 0.0, 1),
        ("easy", 0.2, 1),
        ("hard-signed", 0.2, 1),
        ("easy-signed", 0.1, 1),
        ("window", 0.1, 1),
        ("window-signed", 0.1, 1),
        ("mixture", 0.0, 3),
    ],
)
def test_margins_are_those_of_examples_that_are_drawn_and_ranked(
    policy: str, flip: float, copies: int
) -> None:
    state = State(
        theta_deg=25.0, flip=flip, keep_fraction=0.3, policy=(policy,), lo=0.15, redundancy=copies
    )
    rng = np.random.default_rng(5)
    count, theta = 400_000, np.deg2rad(25.0)
    teacher = rng.standard_normal(count)
    probe = np.cos(theta) * teacher + np.sin(theta) * rng.standard_normal(count)
    observed = np.sign(teacher) * np.where(rng.random(count) < flip, -1, 1)
    score = observed * probe if policy.endswith("signed") else np.abs(probe)
    order = np.argsort(score)
    kept = int(0.3 * count)
    if policy == "mixture":
        # Half of the budget by rank, and by chance a part of each other one's three copies.
        half, rest = order[: kept // 2], order[kept // 2 :]
        chance = (kept - half.size) / rest.size
        rows = np.append(half, rest[rng.binomial(copies, chance, rest.size) > 0])
    else:
        first = {"hard": 0, "easy": count - kept, "window": int(0.15 * count)}
        rows = order[first[policy.removesuffix("-signed")] :][:kept]
    drawn = np.histogram(np.abs(teacher[rows]), curves.margin_edges())[0] / rows.size
    share = curves.margin_shares(state, policy)
    # Five standard errors of a share, and the share of one example.
    bound = 5 * np.sqrt(np.maximum(share, 1 / rows.size) / rows.size)
    assert np.all(np.abs(drawn - share) <= bound)
    assert share.sum() == pytest.approx(1, abs=1e-10)


def test_margins_of_a_probe_that_knows_the_teacher_are_cut_out_of_the_normal_law() -> None:
    state = State(theta_deg=0.0, keep_fraction=0.4, policy=("window",), lo=0.2)
    low, high = stats.norm.ppf([0.6, 0.8])  # abs(z) quantiles .2 and .6
    edges = np.clip(curves.margin_edges(), low, high)
    expected = np.diff(stats.norm.cdf(edges)) * 2 / 0.4
    np.testing.assert_allclose(curves.margin_shares(state, "window"), expected, atol=1e-13)
    everything = 2 * np.diff(stats.norm.cdf(curves.margin_edges()))
    np.testing.assert_allclose(curves.all_shares(), everything, atol=1e-15)


def test_a_window_has_no_margins_at_a_fraction_that_it_cannot_keep() -> None:
    state = State(keep_fraction=0.6, policy=("window",), lo=0.5)
    assert np.all(np.isnan(curves.margin_shares(state, "window")))
    assert np.all(curves.margin_shares(dataclasses.replace(state, lo=0.4), "window") >= 0)


def test_simulated_points_lie_on_the_curve() -> None:
    state = State(alpha_total=4.0, theta_deg=0.0, lowest=0.2, policy=("hard",))
    parts = list(curves.simulate(state, 60, 12))
    assert len(parts) == curves.SIMULATED
    for part, fraction in zip(parts, curves.simulated_fractions(state, "hard", 60), strict=True):
        one = part["hard"]
        gap = float(one["error_mean"].item()) - alone(state, Hard(), float(fraction))
        # Four standard errors, and the terms of order 1/N.
        assert abs(gap) < 4 * float(one["error_stderr"].item()) + 0.3 / 60
    found = curves.curves(state)
    shown = curves.dataset(state, found, curves.marks(state, found), curves.joined(parts))
    assert shown["error_mean"].shape == (1, curves.SIMULATED)
    assert shown.attrs["dim"] == 60


@pytest.mark.parametrize(("dim", "draws", "words"), [(5, 5, "dim = 5"), (50, 1, "draws = 1")])
def test_sizes_of_a_simulation_are_checked(dim: int, draws: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        next(curves.simulate(State(), dim, draws))


def test_a_slider_that_moves_compiles_nothing() -> None:
    first = State(policy=("hard", "window", "mixture"))
    curves.marks(first, curves.refined(first, curves.coarse_curves(first)))
    compiled = compiled_seconds()
    for k in range(3):
        state = dataclasses.replace(
            first,
            alpha_total=6.0 + k,
            theta_deg=5.0 + k,
            redundancy=1 + k,
            lowest=0.03,
            lo=0.2 + k / 10,
            w=k / 10,
        )
        curves.marks(state, curves.refined(state, curves.coarse_curves(state)))
    assert compiled_seconds() == compiled


def test_each_reason_why_a_curve_ends_has_its_own_sentence() -> None:
    noisy = State(alpha_total=50.0, theta_deg=90.0, flip=0.5, policy=("random",))
    found = curves.curves(noisy)["random"]
    # Cover's theorem: no more than 2 N labels of chance are separable.
    assert np.array_equal(found.status == 0, 50 * found.keep_fraction < 2)
    (sentence,) = curves.ends({"random": found})
    assert "(random)" in sentence and "too many noisy labels" in sentence
    whole = dataclasses.replace(found, status=np.zeros(41, int))
    lost = dataclasses.replace(found, status=np.full(41, replica.Status.NOT_CONVERGED))
    assert curves.ends({"hard": whole}) == []
    (sentence,) = curves.ends({"hard": whole, "easy": lost})
    assert "(easy)" in sentence and "noisy" not in sentence
    assert replica.Status.NOT_CONVERGED.sentence in sentence
