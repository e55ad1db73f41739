"""Selection besides an existing set: definitions, enumeration, invariances, sentences."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import nnls

from selection import SELECTORS, Pool, Selector, Subset, knn_graph, redundancy
from selection.adapters import SelectionSampler
from selection.given import Given, proportional
from selection.infomax import InfoMaxProblem, certify_infomax
from selection.methods.clusters import S2L, ClusterTop
from selection.methods.dedup import D4, MedDEL, SemDeDup
from selection.methods.diversity import CodingRate, Herding, HullVolume, KCenter
from selection.methods.facility import CRAIG, AdaCore, FacilityLocation
from selection.methods.gradients import Glister, GradMatch
from selection.methods.graph import D2, InfoMax, KMedian, edge_weights, message_passing
from selection.methods.graph_cut import SAS, ClipCov
from selection.methods.ranking import CCS, EasiestFirst, HardestFirst, ModerateCoreset, RandomSample
from selection.methods.wrappers import Cutoff, Listed, Partitioned, Quotas, ViaProxy
from selection.selector import Conditional

N = 60
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 3
FEATURES = RNG.standard_normal((N, 4)) + 2 * np.eye(4)[LABELS]
SCORES = RNG.random(N)
GIVEN = np.array([3, 7, 8, 20, 41])
COMPARING = [name for name, kind in SELECTORS.items() if issubclass(kind, Conditional)]


def pool(**changes: Any) -> Pool:
    """Everything that a method may need, in one class but for GLISTER's."""
    arrays = {
        "scores": SCORES,
        "features": FEATURES,
        "gradients": FEATURES[:, :3] + 1,
        "trajectories": FEATURES**2,
        "texts": FEATURES + 0.2 * np.random.default_rng(1).standard_normal((N, 4)),
    }
    return Pool.of(**(arrays | changes))


def method(name: str) -> Selector:
    options: dict[str, Any] = {"meddel": {"exact": True, "epsilon": 2.0}}
    options |= {one: {"exact": True} for one in ("gradmatch", "semdedup", "d4")}
    return SELECTORS[name](**options.get(name, {}))


def pool_of(name: str) -> Pool:
    return pool(labels=LABELS) if name == "glister" else pool()


def same(one: Subset, other: Subset) -> None:
    assert np.array_equal(one.indices, other.indices)
    assert np.array_equal(one.weights, other.weights)
    assert one.objective == other.objective and dict(one.diagnostics) == dict(other.diagnostics)
    assert (one.gains is None) == (other.gains is None)
    if one.gains is not None:
        assert np.array_equal(one.gains, other.gains)


def test_every_method_that_compares_examples_counts_given_ones() -> None:
    ranking = {"hard", "easy", "random", "importance", "moderate", "ccs", "optimal-window"}
    assert set(COMPARING) == set(SELECTORS) - ranking


# The example of the issue: two more examples beside 50 of one of three clusters.
DIRECTIONS = np.array([[10.0, 0, 0], [0, 10, 0], [0, 0, 10]])
CLUSTER = np.repeat([0, 1, 2], 60)
CLUSTERED = DIRECTIONS[CLUSTER] + 0.3 * np.random.default_rng(4).standard_normal((180, 3))
FEW = {
    "infomax": {"neighbours": 60, "weight": 1.0},
    "k-median": {"neighbours": 60},
    "d2": {"neighbours": 60},
    "cluster-top": {"clusters": 3},
    "hierarchical-k-means": {"clusters": 3, "resamples": 0},
    "gradmatch": {"exact": True},
    "semdedup": {"exact": True},
    "meddel": {"exact": True},
    "d4": {"exact": True},
}


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", sorted(set(COMPARING) - {"s2l", "meddel", "adacore"}))
def test_the_two_other_clusters_of_three(name: str, outside: bool) -> None:
    scores = np.random.default_rng(5).random(180)
    three = Pool.of(
        features=CLUSTERED,
        scores=scores,
        texts=CLUSTERED,
        **({"labels": CLUSTER} if name == "glister" else {}),
    )
    labelled = np.arange(50)
    given = (
        Given.of(three, outside=three.take(labelled)) if outside else Given.of(three, rows=labelled)
    )
    found = SELECTORS[name](**FEW.get(name, {})).select(three, 2, given=given)
    assert sorted(CLUSTER[found.indices].tolist()) == [1, 2]


def test_labels_count_what_is_given_in_the_shares() -> None:
    three = Pool.of(features=CLUSTERED, labels=CLUSTER)
    for one in (CRAIG(), SAS(), GradMatch(per_class=True), FacilityLocation(per_class=True)):
        inside = one.select(three, 2, given=Given.of(three, rows=np.arange(50)))
        assert sorted(CLUSTER[inside.indices].tolist()) == [1, 2]
        known = Given.of(three, outside=three.take(np.arange(50)))
        outside = one.select(three, 2, given=known)
        assert sorted(CLUSTER[outside.indices].tolist()) == [1, 2]


def test_proportional_shares_of_given_and_new_ones_together() -> None:
    groups = [np.arange(40), np.arange(40, 70), np.arange(70, 100)]
    # 20 in all are 8, 6 and 6; of them 10, 1 and 0 are there, so that the last two share 10 + 1.
    assert proportional(groups, 9, [10, 1, 0], [10, 1, 0]) == [0, 4, 5]
    assert proportional(groups, 10) == [4, 3, 3]
    # Class 0 has one example left to give, class 1 has none.
    assert proportional(groups, 10, [39, 30, 0], [39, 30, 0]) == [0, 0, 10]
    assert proportional(groups, 31, [39, 30, 0], [39, 30, 0]) == [1, 0, 30]
    # Given ones from outside are no rows of the class.
    assert proportional(groups, 100, [50, 0, 0], [0, 0, 0]) == [40, 30, 30]


# The window of the theory is a ranking whose place a search finds in seconds: not here.
@pytest.mark.parametrize("name", sorted(set(SELECTORS) - {"optimal-window"}))
def test_an_empty_existing_set_is_none(name: str) -> None:
    one, chosen = pool_of(name), method(name)
    plain = chosen.select(one, 12, seed=3)
    same(plain, chosen.select(one, 12, seed=3, given=None))
    same(plain, chosen.select(one, 12, seed=3, given=Given.of(one, rows=[])))


@pytest.mark.parametrize("name", COMPARING)
def test_the_order_of_the_existing_set_does_not_matter(name: str) -> None:
    one, chosen = pool_of(name), method(name)
    others = np.array([11, 50, 30, 2])
    first = Given.of(one, rows=GIVEN, outside=one.take(others))
    second = Given.of(one, ids=GIVEN[::-1], outside=one.take(others[::-1]))
    same(chosen.select(one, 9, given=first), chosen.select(one, 9, given=second))


@pytest.mark.parametrize("name", COMPARING)
def test_given_ones_are_not_picked_and_permutations_change_nothing(name: str) -> None:
    one, chosen = pool_of(name), method(name)
    found = chosen.select(one, 20, seed=1, given=Given.of(one, rows=GIVEN))
    assert len(found) == 20 and not np.any(np.isin(found.indices, GIVEN))
    order = RNG.permutation(N)
    moved = one.take(order)
    other = chosen.select(moved, 20, seed=1, given=Given.of(moved, ids=GIVEN))
    assert np.array_equal(order[other.indices], found.indices)
    everyone = chosen.select(one, N - len(GIVEN), given=Given.of(one, rows=GIVEN))
    assert len(everyone) == N - len(GIVEN)


# Of these the first j picks and then the others are what the method picks at once.
GREEDY: list[tuple[Selector, bool]] = [
    (KCenter(first="central"), False),
    (Herding(), False),
    (D2(), False),
    (FacilityLocation(), False),
    (FacilityLocation(mode="sparse", neighbours=6), False),
    (CRAIG(), False),
    (AdaCore(), False),
    (InfoMax(solver="greedy", swaps=False), False),
    (CodingRate(), False),
    (HullVolume(measure="dispersion"), False),
    (HullVolume(), False),
    (Glister(stochastic=False), True),
    (SAS(), False),
    (ClipCov(), False),
    (ClipCov(published=True), False),
    (SAS(published=True), False),
    (ClusterTop(clusters=7), False),
]


@pytest.mark.parametrize(("greedy", "labelled"), GREEDY, ids=lambda one: getattr(one, "name", ""))
def test_greedy_goes_on_from_its_own_first_picks(greedy: Selector, labelled: bool) -> None:
    one = pool(labels=LABELS) if labelled else pool()
    # The simplex of four dimensions is full after five vertices.
    whole = greedy.select(one, 5)
    for count in (1, 2, 4):
        first = whole.indices[:count]
        rest = greedy.select(one, 5 - count, given=Given.of(one, rows=first))
        assert rest.indices.tolist() == whole.indices[count:].tolist()
        if whole.gains is not None and rest.gains is not None:
            np.testing.assert_allclose(rest.gains, whole.gains[count:], rtol=1e-6, atol=1e-9)


# The pool without the given examples, which come from outside, is the same problem; it is another
# one for what has a target (the mean, the sum of gradients, a validation set) or clusters.
SAME_PROBLEM: list[Selector] = [
    KCenter(),
    FacilityLocation(),
    FacilityLocation(mode="sparse", neighbours=6),
    CRAIG(),
    InfoMax(scaling="none", certificate_steps=5),
    KMedian(),
    D2(scaling="none"),
    CodingRate(),
    HullVolume(measure="dispersion"),
    SAS(),
    ClipCov(),
    SELECTORS["badge"](),
]


@pytest.mark.parametrize("chosen", SAME_PROBLEM, ids=lambda one: one.name)
def test_from_outside_as_from_the_pool(chosen: Selector) -> None:
    one = pool()
    given = Given.of(one, rows=GIVEN)
    rest = given.rest(N)
    smaller = one.take(rest)
    inside = chosen.select(one, 10, seed=2, given=given)
    outside = chosen.select(smaller, 10, seed=2, given=Given.of(smaller, outside=one.take(GIVEN)))
    assert np.array_equal(inside.indices, rest[outside.indices])
    assert np.array_equal(inside.weights, outside.weights)
    if inside.gains is not None and outside.gains is not None:
        np.testing.assert_allclose(inside.gains, outside.gains, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "chosen", [HardestFirst(), EasiestFirst(), RandomSample(), ModerateCoreset(), CCS()]
)
def test_ranking_methods_leave_given_ones_out(chosen: Selector) -> None:
    one = pool(labels=LABELS)
    given = Given.of(one, rows=GIVEN)
    rest = given.rest(N)
    found = chosen.select(one, 9, seed=5, given=given)
    same(found, chosen.select(one.take(rest), 9, seed=5).at(rest))
    with pytest.raises(ValueError, match=f"method '{chosen.name}' does not compare examples"):
        chosen.select(one, 9, given=Given.of(one, features=FEATURES[:2]))


def distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows[:, None] - others[None], axis=2)


def test_k_center_is_at_most_twice_the_least_radius() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows, outside = rng.standard_normal((11, 2)), rng.standard_normal((2, 2))
        one = Pool.of(features=rows)
        found = KCenter().select(one, 3, given=Given.of(one, rows=[4], features=outside))
        base = np.concatenate([rows[[4]], outside])

        def radius(chosen: Any, rows: np.ndarray = rows, base: np.ndarray = base) -> float:
            centres = np.concatenate([base, rows[list(chosen)]])
            return float(distances(rows, centres).min(1).max())

        left = [i for i in range(11) if i != 4]
        best = min(radius(chosen) for chosen in itertools.combinations(left, 3))
        assert found.objective == pytest.approx(radius(found.indices), rel=1e-12)
        assert best <= found.objective <= 2 * best
        first = distances(rows, base).min(1)
        first[4] = -1
        assert found.indices[0] == np.argmax(first)


def test_herding_follows_the_mean_with_the_given_ones_in_it() -> None:
    one, outside = pool(), FEATURES[:3] - 1.0
    found = Herding().select(one, 6, given=Given.of(one, rows=GIVEN, features=outside))
    total, taken = FEATURES[GIVEN].sum(0) + outside.sum(0), list(GIVEN)
    for step, pick in enumerate(found.indices):
        wanted = (8 + step + 1) * FEATURES.mean(0) - total
        left = np.linalg.norm(FEATURES - wanted, axis=1)
        left[taken] = np.inf
        assert pick == np.argmin(left)
        taken.append(int(pick))
        total = total + FEATURES[pick]
    gap = np.linalg.norm(total / 14 - FEATURES.mean(0))
    assert found.objective == pytest.approx(gap, rel=1e-9)


@pytest.mark.parametrize("mode", ["exact", "sparse"])
def test_facility_location_adds_to_what_is_covered(mode: Any) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        # One of the given is farther from all than they are from each other.
        rows, outside = rng.standard_normal((11, 2)), np.array([[0.2, 0.1], [50.0, 0.0]])
        one = Pool.of(features=rows)
        given = Given.of(one, rows=[2], features=outside)
        found = FacilityLocation(mode=mode, neighbours=12).select(one, 3, given=given)
        base = distances(rows, np.concatenate([rows[[2]], outside])).min(1)
        between = distances(rows, rows)

        def gain(chosen: Any, base: np.ndarray = base, between: np.ndarray = between) -> float:
            near = np.minimum(base, between[:, list(chosen)].min(1, initial=np.inf))
            return float((base - near).sum())

        left = [i for i in range(11) if i != 2]
        chosen: list[int] = []
        assert found.gains is not None and found.objective is not None
        for pick, value in zip(found.indices.tolist(), found.gains, strict=True):
            steps = {i: gain([*chosen, i]) - gain(chosen) for i in left if i not in chosen}
            assert value == pytest.approx(max(steps.values()), rel=1e-5)
            assert steps[pick] == pytest.approx(max(steps.values()), rel=1e-5)
            chosen.append(pick)
        best = max(gain(chosen) for chosen in itertools.combinations(left, 3))
        assert (1 - np.exp(-1)) * best <= found.objective * (1 + 1e-5)
        assert found.objective <= best * (1 + 1e-5)
        if mode == "sparse":
            assert abs(found.diagnostics["sparse_loss"][0]) < 1e-5


def test_weights_count_who_is_nearest_to_no_given_one() -> None:
    one, outside = pool(), FEATURES[10:12] + 0.01
    found = FacilityLocation().select(one, 8, given=Given.of(one, rows=GIVEN, features=outside))
    centres = np.concatenate([FEATURES[GIVEN], outside, FEATURES[found.indices]])
    owner = distances(FEATURES, centres).argmin(1) - 7
    assert np.array_equal(found.weights, np.bincount(owner[owner >= 0], minlength=8))
    assert found.weights.min() >= 1 and found.weights.sum() < N


def test_every_pick_counts_for_itself_and_every_example_once() -> None:
    rows = np.repeat(FEATURES[:4], 5, axis=0)
    for chosen in (FacilityLocation(), CRAIG(), AdaCore(), FacilityLocation(mode="sparse")):
        for scale in (1.0, 1e-170):
            found = chosen.select(Pool.of(features=rows * scale, gradients=rows * scale), 9)
            # Four different ones come first; the five others are copies of them.
            assert found.weights.sum() == 20 and found.weights.min() == 1
            assert found.weights[4:].tolist() == [1] * 5
            sites = np.bincount(found.indices // 5, found.weights, minlength=4)
            assert sites.tolist() == [5, 5, 5, 5]


@pytest.mark.parametrize("kind", ["infomax", "k-median"])
def test_infomax_besides_given_ones_against_enumeration(kind: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        rows, scores = rng.random((12, 3)), rng.random(12)
        one = Pool.of(features=rows, scores=scores)
        weight = 0.7 if kind == "infomax" else 1.0
        information = scores if kind == "infomax" else np.zeros(12)
        kernel = redundancy(knn_graph(rows, 5)).toarray()
        chosen: Selector = InfoMax(weight=0.7, scaling="none") if kind == "infomax" else KMedian()
        given = [1, 6, 9]
        found = chosen.select(one, 4, given=Given.of(one, rows=given))

        def value(
            chosen: Any,
            information: np.ndarray = information,
            kernel: np.ndarray = kernel,
            weight: float = weight,
        ) -> float:
            z = np.zeros(12)
            z[list(chosen)] = 1
            return float(z @ information - weight * z @ kernel @ z)

        left = [i for i in range(12) if i not in given]
        values = [value([*given, *rest]) - value(given) for rest in itertools.combinations(left, 4)]
        own = value([*given, *found.indices]) - value(given)
        assert found.objective == pytest.approx(own, rel=1e-9, abs=1e-12)
        assert own == pytest.approx(max(values), rel=1e-9, abs=1e-12)
        if kind == "infomax":
            proof = found.diagnostics["certificate"]
            assert max(values) <= proof["bound"] + 1e-12
            assert min(proof["bounds"].values()) >= max(values) - 1e-9


def test_the_problem_after_some_are_chosen() -> None:
    kernel = np.array([[0, 0.5, 0.2, 0], [0.5, 0, 0, 0.1], [0.2, 0, 0, 0.4], [0, 0.1, 0.4, 0]])
    problem = InfoMaxProblem.of([1.0, 2.0, 3.0, 4.0], kernel, 0.5, 2)
    left, rows = problem.after(np.array([2]))
    assert rows.tolist() == [0, 1, 3]
    # I - 2 lam K_i2 by hand.
    np.testing.assert_allclose(left.information, [0.8, 2.0, 3.6])
    np.testing.assert_allclose(left.redundancy.toarray(), kernel[np.ix_(rows, rows)])
    assert left.objective(np.array([1, 2])) == pytest.approx(2 + 3.6 - 0.5 * 2 * 0.1)
    proof = certify_infomax(left, np.array([1, 2]))
    assert proof.bound >= 5.5 - 1e-12
    assert problem.after(np.array([], np.int64))[0] is problem


def test_d2_picks_given_ones_first_by_its_own_rule() -> None:
    one = pool()
    for outside in (None, one.take(np.array([5, 6]))):
        given = Given.of(one, rows=GIVEN, outside=outside)
        found = D2(scaling="none").select(one, 15, given=given)
        rows, scores = FEATURES, SCORES
        if outside is not None and given.outside is not None:
            rows = np.concatenate([rows, given.outside.features])
            scores = np.concatenate([scores, given.outside.scores.values])
        graph = knn_graph(rows, 5)
        back = edge_weights(graph, 0.1).toarray()
        values = message_passing(scores, edge_weights(graph, 1.0))
        there = [*GIVEN.tolist(), *range(N, len(rows))]
        taken: list[int] = []
        for _ in range(len(there) + 15):
            first = [i for i in there if i not in taken]
            left = first or [i for i in range(N) if i not in taken]
            pick = max(left, key=lambda i: values[i])
            values = values - back[pick] * max(values[pick], 0)
            taken.append(pick)
        assert found.indices.tolist() == taken[len(there) :]


def test_d2_gives_the_mean_score_to_given_ones_without_a_score() -> None:
    one, outside = pool(), FEATURES[:6] + 0.1
    known = Pool.of(features=outside, scores=np.full(6, SCORES.mean()))
    plain = D2(scaling="none").select(one, 20, given=Given.of(one, features=outside))
    assert np.array_equal(
        plain.indices,
        D2(scaling="none").select(one, 20, given=Given.of(one, outside=known)).indices,
    )


def test_coding_rate_is_that_of_all_together() -> None:
    one, outside = pool(), RNG.standard_normal((3, 4))
    found = CodingRate().select(one, 5, given=Given.of(one, rows=GIVEN, features=outside))
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    base = np.concatenate([unit[GIVEN], outside / np.linalg.norm(outside, axis=1)[:, None]])

    def rate(rows: np.ndarray) -> float:
        return float(np.linalg.slogdet(np.eye(4) + 4 / (13 * 0.25) * rows.T @ rows)[1] / 2)

    assert found.gains is not None
    for at, (pick, gain) in enumerate(zip(found.indices, found.gains, strict=True)):
        before = np.concatenate([base, unit[found.indices[:at]]])
        taken = {*GIVEN.tolist(), *found.indices[:at].tolist()}
        steps = {
            i: rate(np.concatenate([before, unit[[i]]])) - rate(before)
            for i in range(N)
            if i not in taken
        }
        assert gain == pytest.approx(steps[int(pick)], rel=1e-8)
        assert gain == pytest.approx(max(steps.values()), rel=1e-8)


def test_gradmatch_matches_what_the_given_ones_leave() -> None:
    gradients = RNG.standard_normal((12, 5)) + 0.3
    outside = RNG.standard_normal((2, 5))
    one = Pool.of(gradients=gradients)
    given = Given.of(one, rows=[0, 4], outside=Pool.of(gradients=outside))
    found = GradMatch(penalty=0.0, tolerance=0.0).select(one, 10, given=given)
    target = gradients.sum(0) - gradients[[0, 4]].sum(0) - outside.sum(0)
    left = given.rest(12)
    # Lawson and Hanson without a penalty.
    weights, error = nnls(gradients[left].T, target)
    assert found.diagnostics["gradient_error"][0] == pytest.approx(error, abs=1e-6)
    fitted = found.weights @ gradients[found.indices]
    np.testing.assert_allclose(fitted, weights @ gradients[left], atol=1e-6)
    assert not {0, 4} & set(found.indices.tolist())


def test_the_cut_with_given_ones_from_both_sides() -> None:
    one, outside = Pool.of(features=FEATURES[:14]), FEATURES[20:23]
    found = SAS().select(one, 4, given=Given.of(one, rows=[2, 5], features=outside))
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)

    def cut(chosen: list[int]) -> float:
        inside = [2, 5, *chosen]
        free = np.setdiff1d(np.arange(14), inside)
        members = np.concatenate([unit[inside], unit[20:23]])
        return float((unit[free] @ members.T).sum())

    chosen: list[int] = []
    assert found.gains is not None
    for pick, gain in zip(found.indices.tolist(), found.gains, strict=True):
        steps = {i: cut([*chosen, i]) - cut(chosen) for i in range(14) if i not in [2, 5, *chosen]}
        assert gain == pytest.approx(steps[pick], abs=1e-10)
        assert gain == pytest.approx(max(steps.values()), abs=1e-10)
        chosen.append(pick)


def test_hull_volume_beside_a_full_span_begins_at_the_mean_of_the_given_ones() -> None:
    one = Pool.of(features=CLUSTERED[:, :2])
    found = HullVolume().select(one, 1, given=Given.of(one, rows=np.arange(50)))
    mean = CLUSTERED[:50, :2].mean(0)
    far = np.linalg.norm(CLUSTERED[:, :2] - mean, axis=1)
    assert found.indices[0] == 50 + np.argmax(far[50:])
    assert found.gains is not None and found.gains[0] == pytest.approx(far.max())


@pytest.mark.parametrize("chosen", [SemDeDup(), MedDEL(epsilon=2.0), D4()])
def test_copies_of_given_ones_are_dropped(chosen: Selector) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 20))
    copies = np.concatenate([rows, rows[:4] * 2, rows[:4] + 1e-3])
    one = Pool.of(features=copies)
    found = chosen.select(one, 40, given=Given.of(one, rows=[0, 1, 45]))
    assert set(found.indices.tolist()).isdisjoint({0, 1, 40, 41, 44, 45})
    assert len({3, 43, 47} & set(found.indices.tolist())) == 1
    outside = chosen.select(one, 40, given=Given.of(one, features=rows[[0, 1]] * 3))
    assert set(outside.indices.tolist()).isdisjoint({0, 1, 40, 41, 44, 45})
    assert len(chosen.select(one, 40)) == 40


def test_clusters_have_had_the_turns_of_given_ones() -> None:
    far = np.repeat(np.eye(3) * 100, [8, 10, 12], axis=0) + RNG.standard_normal((30, 3)) / 10
    one = Pool.of(features=far, scores=np.arange(30.0), trajectories=far)
    # Of clusters of 8, 10 and 12 two, none and one are kept: three each of nine in all.
    for given in (
        Given.of(one, rows=[0, 7, 20]),
        Given.of(one, outside=one.take(np.array([0, 7, 20]))),
    ):
        for chosen in (S2L(clusters=3), ClusterTop(clusters=3)):
            found = next(
                one_seed
                for one_seed in (chosen.select(one, 6, seed=s, given=given) for s in range(9))
                if len(np.unique(np.searchsorted([8, 18], one_seed.indices, "right"))) == 3
            )
            homes = np.searchsorted([8, 18], found.indices, side="right")
            assert np.bincount(homes).tolist() == [1, 3, 2]


def test_wrappers_pass_the_existing_set_on() -> None:
    one = pool(labels=LABELS)
    given = Given.of(one, rows=GIVEN, outside=one.take(np.array([0, 1])))
    assert given.outside is not None
    quotas = Quotas(KCenter()).select(one, 6, given=given)
    for label in range(3):
        rows = np.flatnonzero(label == LABELS)
        own = Given.of(
            one.take(rows),
            rows=np.flatnonzero(np.isin(rows, GIVEN)),
            outside=given.outside.take(np.flatnonzero(given.outside.labels == label))
            if np.any(given.outside.labels == label)
            else None,
        )
        alone = KCenter().select(one.take(rows), 2, given=own)
        mine = quotas.indices[LABELS[quotas.indices] == label]
        # The class without a given example begins at random.
        if len(own):
            assert np.array_equal(mine, rows[alone.indices])
    hard = Cutoff(FacilityLocation(), 0.2).select(one, 6, given=given)
    left = given.rest(N)
    dropped = left[np.argsort(-SCORES[left], kind="stable")[:11]]
    kept = np.setdiff1d(np.arange(N), dropped)
    held = Given.of(one.take(kept), ids=GIVEN, outside=given.outside)
    same(hard, FacilityLocation().select(one.take(kept), 6, given=held).at(kept))
    proxy = ViaProxy(InfoMax(), replace(one.scores, values=SCORES[::-1].copy()))
    swapped = pool(labels=LABELS, scores=SCORES[::-1].copy())
    same(proxy.select(one, 6, given=given), InfoMax().select(swapped, 6, given=given))


def test_a_class_that_is_given_as_a_whole_gets_no_quota() -> None:
    one = Pool.of(scores=SCORES, labels=LABELS)
    given = Given.of(one, rows=np.flatnonzero(LABELS == 1))
    for shares in ("equal", "proportional", {0: 1.0, 1: 5.0, 2: 1.0}):
        found = Quotas(HardestFirst(), shares=shares, expected=(0, 1, 2)).select(
            one, 6, given=given
        )
        assert found.diagnostics["quotas"] == {"0": 3, "2": 3}
        assert np.bincount(LABELS[found.indices], minlength=3).tolist() == [3, 0, 3]


def test_listed_examples_are_an_existing_set() -> None:
    one = pool()
    for chosen in (KCenter(), FacilityLocation(), InfoMax(), RandomSample()):
        listed = Listed(chosen, include=(8, 3), exclude=(5,)).select(one, 9)
        assert listed.indices[:2].tolist() == [8, 3]
        rest = np.setdiff1d(np.arange(N), [5])
        alone = chosen.select(one.take(rest), 7, given=Given.of(one.take(rest), ids=[3, 8]))
        assert np.array_equal(listed.indices[2:], rest[alone.indices])
    three = Pool.of(features=CLUSTERED)
    for other in (KCenter(), FacilityLocation(), Herding()):
        found = Listed(other, include=tuple(range(50))).select(three, 52)
        assert sorted(CLUSTER[found.indices[50:]].tolist()) == [1, 2]
    given = Given.of(one, rows=[3])
    with pytest.raises(ValueError, match="include holds the id 3, which is given already"):
        Listed(KCenter(), include=(8, 3)).select(one, 4, given=given)


def test_every_part_has_the_whole_existing_set(tmp_path: Any) -> None:
    three = Pool.of(features=CLUSTERED)
    given = Given.of(three, rows=np.arange(50))
    whole = Partitioned(KCenter(), parts=2)
    found = whole.select(three, 4, given=given)
    assert 0 not in CLUSTER[found.indices] and len(found) == 4
    kept = replace(whole, finished=tmp_path)
    same(found, kept.select(three, 4, given=given))
    assert len(list(tmp_path.iterdir())) == 2
    same(found, kept.select(three, 4, given=given))
    assert len(list(tmp_path.iterdir())) == 2
    # Another existing set is another part, whether it is from the pool or not.
    kept.select(three, 4, given=Given.of(three, rows=np.arange(49)))
    kept.select(three, 4, given=Given.of(three, features=CLUSTERED[:1]))
    kept.select(three, 4, given=Given.of(three, features=CLUSTERED[1:2]))
    kept.select(three, 4)
    assert len(list(tmp_path.iterdir())) == 10
    plain = Partitioned(RandomSample(), parts=3).select(three, 6, given=given)
    assert len(np.unique(plain.indices)) == 6 and plain.indices.min() >= 50


def test_short_forms_of_an_existing_set() -> None:
    names = np.array([f"e{99 - row}" for row in range(N)])
    one = pool(ids=names)
    for given, short in (
        (Given.of(one, rows=GIVEN), names[GIVEN]),
        (Given.of(one, features=FEATURES[GIVEN] + 1), FEATURES[GIVEN] + 1),
    ):
        same(KCenter().select(one, 4, given=given), KCenter().select(one, 4, given=short))
    plain = pool()
    by_row = KCenter().select(plain, 4, given=Given.of(plain, rows=GIVEN))
    same(by_row, KCenter().select(plain, 4, given=GIVEN.tolist()))
    with pytest.raises(ValueError, match=r"features has shape \(\)"):
        KCenter().select(plain, 4, given=3)


# Copies of given ones are at distance 0: they stand in the pool and are not picked.
@pytest.mark.parametrize(
    "chosen",
    [KCenter(), FacilityLocation(), CRAIG(), AdaCore(), Herding(), SELECTORS["badge"](), D4()],
    ids=lambda one: one.name,
)
def test_copies_in_the_pool_of_what_is_outside(chosen: Selector) -> None:
    one = pool()
    inside = chosen.select(one, 10, seed=2, given=Given.of(one, rows=GIVEN))
    outside = chosen.select(one, 10, seed=2, given=Given.of(one, outside=one.take(GIVEN)))
    assert np.array_equal(inside.indices, outside.indices)
    assert np.array_equal(inside.weights, outside.weights)


def test_under_samplers_take_rows_from_outside() -> None:
    sampler = SelectionSampler(KCenter(), budget=2, given=CLUSTERED[:50])
    kept, labels = sampler.fit_resample(CLUSTERED[50:], CLUSTER[50:])
    assert sorted(labels.tolist()) == [1, 2] and kept.shape == (2, 3)
    assert "given" in sampler.get_params()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rows": [3, 60]}, "given holds row 60; the pool has 60 examples, rows 0 to 59"),
        ({"rows": [3, -1]}, "given holds row -1; the pool has 60 examples"),
        ({"rows": [3, 4, 3]}, "given holds the row 3 more than once"),
        ({"rows": [0.5]}, "given holds 0.5 at index 0, not a whole number"),
        ({"rows": np.arange(60) < 5}, r"given is a mask; name the rows themselves"),
        ({"ids": np.arange(60) < 5}, r"given is a mask; name the ids themselves"),
        ({"ids": [3, 99]}, "given holds the id 99, which the pool lacks"),
        ({"ids": ["a"]}, "given holds the id a, of another kind than the pool's ids"),
        ({"ids": [2, 2]}, "given holds the id 2 more than once"),
        ({"rows": [1], "ids": [1]}, "rows and ids of the given examples exclude each other"),
        ({"features": np.ones((2, 3))}, r"features of the given examples have shape \(2, 3\)"),
        ({"features": np.full((2, 4), np.nan)}, "features holds nan"),
    ],
)
def test_bad_existing_sets(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Given.of(pool(), **arguments)


def test_what_cannot_be_compared() -> None:
    one = pool(graph=knn_graph(FEATURES, 5))
    outside = Given.of(one, features=FEATURES[:2])
    for name in ("infomax", "k-median", "d2"):
        with pytest.raises(ValueError, match="have no place in its graph; leave the graph out"):
            method(name).select(one, 5, given=outside)
    with pytest.raises(ValueError, match="compares gradients, which the given examples"):
        CRAIG().select(one, 5, given=outside)
    with pytest.raises(ValueError, match="compares texts, which the given examples"):
        ClipCov().select(one, 5, given=outside)
    with pytest.raises(ValueError, match="compares labels, which the given examples"):
        Glister().select(pool(labels=LABELS), 5, given=outside)
    with pytest.raises(ValueError, match="outside the valid range 1 to 55, a count of those of"):
        KCenter().select(one, 56, given=Given.of(one, rows=GIVEN))
    with pytest.raises(ValueError, match="all 60 examples are given already"):
        KCenter().select(one, 1, given=Given.of(one, rows=np.arange(N)))
    with pytest.raises(ValueError, match="given holds row 59; the pool has 10 examples"):
        KCenter().select(one.take(np.arange(10)), 1, given=Given.of(one, rows=[59]))
