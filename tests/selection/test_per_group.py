"""Limits per group around any method, against plain loops over small pools."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardset.cli import run
from selection import KMedian, PerGroup, Pool
from selection.__main__ import main
from selection.given import Given
from selection.methods.diversity import KCenter
from selection.methods.facility import FacilityLocation
from selection.methods.ranking import CCS, HardestFirst, RandomSample

N = 24
RANDOM = np.random.default_rng(5)
FEATURES = RANDOM.standard_normal((N, 3))
SCORES = RANDOM.permutation(N).astype(float)
# Groups of 12, 6, 4 and 2.
GROUPS = np.repeat([7, 3, 9, 4], [12, 6, 4, 2])[RANDOM.permutation(N)]
POOL = Pool.of(features=FEATURES, scores=SCORES, groups=GROUPS)


def thinned(order: list[int], limit: int, budget: int, held: list[int]) -> list[int]:
    """The first picks of an order whose groups are not full, counted one by one."""
    counts: dict[int, int] = {}
    for row in held:
        counts[GROUPS[row]] = counts.get(GROUPS[row], 0) + 1
    kept: list[int] = []
    for row in order:
        if counts.get(GROUPS[row], 0) < limit and len(kept) < budget:
            counts[GROUPS[row]] = counts.get(GROUPS[row], 0) + 1
            kept.append(row)
    return kept


def farthest_first(held: list[int]) -> list[int]:
    """All others, each the one farthest from those before it and from those held."""
    order = list(held)
    while len(order) < N:
        left = [row for row in range(N) if row not in order]
        gaps = [min(np.linalg.norm(FEATURES[row] - FEATURES[o]) for o in order) for row in left]
        order.append(left[int(np.argmax(gaps))])
    return order[len(held) :]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_method_with_an_order_is_thinned(limit: int) -> None:
    hard = sorted(range(N), key=lambda row: -SCORES[row])
    far = farthest_first([4, 11])
    reach = sum(min(limit, size) for size in (12, 6, 4, 2))
    for budget in (1, 3, reach):
        found = PerGroup(HardestFirst(), limit).select(POOL, budget)
        assert found.indices.tolist() == thinned(hard, limit, budget, [])
        assert found.nested and found.requested == budget
    # Given ones take their places: with a limit of 1 or 2 fewer are left for their groups.
    held = [sum(GROUPS[row] == one for row in (4, 11)) for one in (7, 3, 9, 4)]
    sizes = [int(np.sum(one == GROUPS)) for one in (7, 3, 9, 4)]
    reach = sum(min(s - h, max(limit - h, 0)) for s, h in zip(sizes, held, strict=True))
    for budget in (1, 2, reach):
        found = PerGroup(KCenter(), limit).select(POOL, budget, given=[4, 11])
        assert found.indices.tolist() == thinned(far, limit, budget, [4, 11])


def test_of_what_was_passed_over_the_number_is_told() -> None:
    scores = Pool.of(scores=np.arange(10.0, 0.0, -1), groups=[0] * 6 + [1] * 4)
    found = PerGroup(HardestFirst(), 2).select(scores, 3)
    assert found.indices.tolist() == [0, 1, 6]
    assert found.diagnostics == {"per_group": 2, "groups": 2, "passed_over": 4}
    whole = PerGroup(HardestFirst(), 6).select(scores, 3)
    assert whole.indices.tolist() == [0, 1, 2]
    assert whole.diagnostics["passed_over"] == 0


def test_a_limit_that_does_not_bind_changes_nothing() -> None:
    for inner in (FacilityLocation(), KMedian(), RandomSample(), CCS()):
        plain, found = inner.select(POOL, 5), PerGroup(inner, 12).select(POOL, 5)
        assert np.array_equal(found.indices, plain.indices)
        assert np.array_equal(found.weights, plain.weights)
        assert found.objective == plain.objective


@pytest.mark.parametrize("inner", [KMedian(), CCS(), RandomSample(), FacilityLocation()])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_method_keeps_the_limit_and_the_budget(inner: Any, seed: int) -> None:
    for limit in (1, 3, 6):
        reach = sum(min(limit, size) for size in (12, 6, 4, 2))
        for budget in (2, reach):
            found = PerGroup(inner, limit).select(POOL, budget, seed)
            assert found.achieved == len(set(found.indices.tolist())) == budget
            _, counts = np.unique(GROUPS[found.indices], return_counts=True)
            assert counts.max() <= limit


def test_weights_of_picks_that_were_passed_over_are_left_out() -> None:
    plain = FacilityLocation().select(POOL, 8)
    assert plain.weighted
    found = PerGroup(FacilityLocation(), 2).select(POOL, 8)
    assert not found.weighted and found.objective is None


def test_names_and_order_of_the_pool_have_no_part() -> None:
    order = np.random.default_rng(2).permutation(N)
    moved = Pool.of(features=FEATURES[order], scores=SCORES[order], groups=GROUPS[order], ids=order)
    for inner in (HardestFirst(), KCenter(), KMedian()):
        found = PerGroup(inner, 2, near=0.6).select(POOL, 5)
        assert moved.ids[PerGroup(inner, 2, near=0.6).select(moved, 5).indices].tolist() == (
            found.indices.tolist()
        )


@pytest.mark.parametrize("near", [0.2, 0.6, 0.9])
def test_near_duplicates_inside_groups(near: float) -> None:
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    stay = [1, 8]  # given
    for row in range(N):
        same = [other for other in stay if GROUPS[other] == GROUPS[row]]
        if row not in stay and all(unit[row] @ unit[other] <= near for other in same):
            stay.append(row)
    free = sorted(set(stay) - {1, 8})
    found = PerGroup(RandomSample(), N, near=near).select(POOL, len(free), given=[1, 8])
    assert sorted(found.indices) == free
    assert found.diagnostics["near_duplicates"] == N - 2 - len(free)
    # Examples of different groups are no duplicates of each other.
    if near == 0.2:
        pairs = combinations(free, 2)
        assert any(unit[a] @ unit[b] > near for a, b in pairs if GROUPS[a] != GROUPS[b])


def test_given_ones_from_outside_count_where_their_group_is_known() -> None:
    pool = Pool.of(features=FEATURES, groups=GROUPS)
    outside = Pool.of(features=FEATURES[:3] + 0.1, groups=[7, 7, 99])
    found = PerGroup(KCenter(), 3).select(pool, 9, given=Given.of(pool, outside=outside))
    assert [int(np.sum(GROUPS[found.indices] == one)) for one in (7, 3, 9, 4)] == [1, 3, 3, 2]


def test_what_cannot_be_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        ValueError, match="per_group = 3 allows 11 examples of 4 groups, fewer than the budget 12"
    ):
        PerGroup(HardestFirst(), 3).select(POOL, 12)
    with pytest.raises(ValueError, match=r"without near-duplicates \(near = 0\.2\), fewer than"):
        PerGroup(HardestFirst(), 3, near=0.2).select(POOL, 11)
    with pytest.raises(ValueError, match="needs groups, which the pool lacks"):
        PerGroup(HardestFirst(), 3).select(Pool.of(scores=SCORES), 2)
    with pytest.raises(ValueError, match="per_group"):
        PerGroup(HardestFirst(), 0)
    with pytest.raises(ValueError, match="near"):
        PerGroup(HardestFirst(), 1, near=-1.0)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", FEATURES)
    np.save("s.npy", SCORES)
    np.save("g.npy", np.array([f"video {one}" for one in GROUPS]))
    text = "select hard --scores s.npy --features x.npy --groups g.npy --budget 6 --json"

    def said(more: str) -> tuple[int, str, str]:
        code = run(main, f"{text} {more}".split())
        return code, *capsys.readouterr()

    code, out, err = said("--per-group 2 --near 0.9")
    assert code == 0, err
    expected = PerGroup(HardestFirst(), 2, near=0.9).select(POOL, 6)
    assert json.loads(out)["kept"] == expected.indices.tolist()
    assert json.loads(out)["diagnostics"]["per_group"] == 2
    # Ids that must be kept count for their group.
    Path("first.txt").write_text("0\n")
    code, out, err = said("--per-group 2 --include first.txt")
    assert code == 0, err
    kept = json.loads(out)["kept"]
    hard = [row for row in sorted(range(N), key=lambda row: -SCORES[row]) if row]
    assert kept == [0, *thinned(hard, 2, 5, [0])]
    for more, words in {
        "--per-group 1": "per_group = 1 allows 4 examples of 4 groups, fewer than the budget 6",
        "--per-group 0": "per_group = 0",
        "--near 0.9": "near has no effect without per_group",
        "--per-group 2 --near 3": "near = 3",
        "--per-group 2 --balance equal": "--per-group and --balance exclude each other",
        "--per-group 2 --partitions 2": "--per-group and --partitions exclude each other",
    }.items():
        code, _, err = said(more)
        assert code == 2 and words in err, err
