"""Picks what is kept within a budget of storage.

The picks are those of a rule, which is a policy or a method.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_range
from replica import SearchStatus, optimal_fraction
from selection import SELECTORS, Pool, Selector, parse_method
from theory import POLICY_NAMES, Policy, policy_from_name

Rows = NDArray[np.int64]
# Policies that need signed margins. Reconstruction errors have no sign.
SIGNED = ("hard-signed", "easy-signed")
LARGEST = np.iinfo(np.int64).max
CHUNK = 1 << 16  # items that are looked at one by one at once
ROUNDS = 12
TRIES = 64
ENOUGH = 1000  # a part of the budget that is not worth another try


@dataclass(frozen=True, eq=False)
class Candidates:
    """Holds what is picked from.

    Attributes:
        ids: distinct, shape (n,).
        pixels: of the image that each one is of or is, shape (n,).
        margins: how hard each one is, shape (n,), where it is known.
        features: shape (n, d), may be memory-mapped, where they are known.
        bytes: of the file of each image, shape (n,), where they count as storage.
    """

    ids: Rows
    pixels: Rows
    margins: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    bytes: Rows | None = None

    def __len__(self) -> int:
        """Count the candidates."""
        return len(self.ids)


def parse_rule(text: str) -> Policy | Selector:
    """Read a policy of `theory` or a method of `selection`.

    The text is NAME or NAME:option=value,...

    Where both have the name ("hard", "easy", "random", "moderate") it is the policy, a function of
    the margins' ranks: the hardest example has the smallest distance to the decision boundary.

    Raises:
        ValueError: an unknown name or option, or a policy of signed margins, which reconstruction
            errors are not.
    """
    name, _, rest = text.partition(":")
    if name in SIGNED:
        raise ValueError(
            f"rule = {text!r} ranks signed margins; reconstruction errors have no sign: use "
            f"{name.removesuffix('-signed')}"
        )
    if name in POLICY_NAMES:
        options = {}
        for part in filter(None, rest.split(",")):
            key, _, value = part.partition("=")
            try:
                options[key] = float(value)
            except ValueError:
                raise ValueError(
                    f"rule = {text!r}: {part!r} is not option=number, such as lo=0.1"
                ) from None
        return policy_from_name(name, **options)
    if name not in SELECTORS:
        policies = [one for one in POLICY_NAMES if one not in SIGNED]
        check_choice("rule", text, dict.fromkeys([*policies, *SELECTORS]))
    return parse_method(text)


def nested_order(policy: Policy, candidates: Candidates, seed: int) -> Rows | None:
    """Order all rows as a policy picks them.

    It is None where larger picks change the order.

    Args:
        policy: of `theory`; the margin's rank stands for the distance to the boundary.
        candidates: with margins, unless the policy is `Random`.
        seed: of random picks.
    """
    n = len(candidates)
    if policy.name == "random":
        return np.random.default_rng(seed).permutation(n)
    order = hardest_first(candidates)
    if policy.name == "hard":
        return order
    if policy.name == "easy":
        return order[::-1]
    if policy.name == "moderate":
        return order[np.argsort(np.abs(np.arange(n) - (n - 1) / 2), kind="stable")]
    if policy.name == "window":
        return order[round(float(policy.parameters()["lo"]) * n) :]
    return None


def pick(rule: Policy | Selector, candidates: Candidates, seed: int) -> Callable[[int], tuple]:
    """Make the function that picks by a rule.

    It maps a count to (rows, weights), for a rule whose picks are not nested.

    Args:
        rule: the policy `Mixture`, or a method of `selection`.
        candidates: with what the rule needs.
        seed: of random picks.
    """
    if isinstance(rule, Selector):
        pool = Pool.of(ids=candidates.ids, scores=candidates.margins, features=candidates.features)

        def chosen(count: int) -> tuple:
            subset = rule.select(pool, count, seed)
            return subset.indices, subset.weights

        return chosen
    share = float(rule.parameters()["w"])
    order = hardest_first(candidates)

    def mixed(count: int) -> tuple:
        hard = round(share * count)
        others = np.random.default_rng(seed).permutation(order[hard:])[: count - hard]
        return np.concatenate([order[:hard], others]), np.ones(count)

    return mixed


def hardest_first(candidates: Candidates) -> Rows:
    """Order rows by descending margin, equal ones by row.

    It is a ValueError without margins.
    """
    if candidates.margins is None:
        raise ValueError("this rule ranks by margin; give the folder of a stage score")
    return np.argsort(-candidates.margins, kind="stable")


def toy_model_ratio(alpha_total: float, theta_deg: float, rule: str = "hard") -> float:
    """Return the toy model's smallest best fraction at a data set's coordinates.

    It is tested on nothing.

    Args:
        alpha_total: examples over the effective dimension of their features, > 0.
        theta_deg: angle between probe and target, 0 to 90 degrees.
        rule: a policy of the theory.

    Raises:
        ValueError: an argument out of range; a point where the theory has no certified answer.
    """
    check_range("alpha_total", alpha_total, 0.0, np.inf, open_low=True)
    check_range("theta_deg", theta_deg, 0.0, 90.0, unit="degrees")
    policy = parse_rule(rule)
    if isinstance(policy, Selector):
        raise ValueError(f"rule = {rule!r} is no policy of the theory: give the ratio itself")
    best = optimal_fraction(alpha_total, np.deg2rad(theta_deg), policy)
    if np.asarray(best.status) != SearchStatus.FOUND:
        raise ValueError(
            f"the theory has no certified fraction at alpha_total = {alpha_total:g}, theta_deg = "
            f"{theta_deg:g} for {rule}: give the ratio itself"
        )
    return float(np.asarray(best.keep_fraction))


@dataclass(frozen=True)
class Budget:
    """Holds what a set may take at most.

    Attributes:
        pixels: of its images.
        bytes: of its files; None where they do not count.
    """

    pixels: int
    bytes: int | None = None

    def __str__(self) -> str:
        """Say the budget in words."""
        return f"{self.pixels} pixels" + ("" if self.bytes is None else f" and {self.bytes} bytes")


def pixel_budget(ratio: float, pixels: int) -> int:
    """Return the number of pixels of a ratio.

    It is floor(ratio * pixels). The ratio is taken as the decimal number that was written.

    Args:
        ratio: share of the full set, in (0, 1].
        pixels: of the full set; or bytes.

    Raises:
        ValueError: a ratio outside its range.
    """
    check_range("ratio", ratio, 0.0, 1.0, open_low=True)
    return math.floor(Fraction(repr(float(ratio))) * pixels)


def group_pixels(pixels: Rows, group: int) -> Rows:
    """Count the pixels of images made of patches.

    An image is made of `group` consecutive patches. Left-over patches make none.

    An image made of patches has as many pixels as the image that its first patch is of.

    Args:
        pixels: of the image that each patch is of, shape (n,).
        group: patches of an image.
    """
    whole = len(pixels) // group
    return pixels[: whole * group : group]


def fitting(
    pixels: Rows,
    sizes: Rows | None,
    budget: Budget,
    group: int = 1,
) -> Rows:
    """Find the items that are kept within a budget.

    All are offered once, in order.

    An item that would begin a new image is kept where that image still fits, and skipped where it
    does not; the next `group` - 1 items after one that is kept go into the same image. What is
    left of the budget at the end is too little for any item that was skipped. O(n).

    Args:
        pixels: of the image that each item is, or that it gives its size to, shape (n,).
        sizes: bytes of each, shape (n,), where they count.
        budget: most of both.
        group: items of an image; a last image that is not full is left out.
    """
    costs = [(pixels, budget.pixels)]
    if sizes is not None and budget.bytes is not None:
        costs.append((sizes, budget.bytes))
    # As long as everything fits, no item has to be looked at by itself.
    whole = len(pixels) // group
    first = whole
    for one, most in costs:
        total = np.cumsum(group_pixels(one, group))
        first = min(first, int(np.searchsorted(total, most, side="right")))
    left = [most - int(group_pixels(one[: first * group], group).sum()) for one, most in costs]
    kept = np.zeros(len(pixels), bool)
    kept[: first * group] = True
    needed = 0
    least = [int(one[first * group :].min(initial=LARGEST)) for one, _ in costs]
    for start in range(first * group, len(pixels), CHUNK):
        if not needed and any(now < low for now, low in zip(left, least, strict=True)):
            break
        part = slice(start, start + CHUNK)
        needed = _offer([one[part].tolist() for one, _ in costs], left, needed, group, kept[part])
    places = np.flatnonzero(kept)
    return places[: len(places) // group * group]


def _offer(
    costs: list[list[int]], left: list[int], needed: int, group: int, kept: NDArray[np.bool_]
) -> int:
    """Offer some items.

    It marks those kept, lowers what is left, and counts what an image needs.

    Args:
        costs: of the items, for each kind of storage.
        left: of each kind; changed.
        needed: items that the image before still needs.
        group: items of an image.
        kept: changed.
    """
    for place, cost in enumerate(zip(*costs, strict=True)):
        if needed:
            needed -= 1
        elif all(own <= now for own, now in zip(cost, left, strict=True)):
            for kind, own in enumerate(cost):
                left[kind] -= own
            needed = group - 1
        else:
            continue
        kept[place] = True
    return needed


class Kept(NamedTuple):
    """Holds what is kept of a rule's picks.

    Attributes:
        rows: of the candidates, hardest first.
        weights: of the rule, shape of `rows`.
        skipped: picks before the last one kept that did not fit.
    """

    rows: Rows
    weights: NDArray[np.float64]
    skipped: int


def kept_picks(
    rule: Policy | Selector,
    candidates: Candidates,
    budget: Budget,
    group: int,
    seed: int,
) -> Kept:
    """Keep the picks of a rule that fit, hardest first.

    What does not fit is skipped.

    Of images, and of patches that are picked hardest first or have no margins, nothing is left
    that would fit. Of patches that are picked in another order an image's size is known only once
    all are arranged: the first picks that fit are kept, then further ones are tried.

    Args:
        rule: see `parse_rule`.
        candidates: what is picked from.
        budget: most pixels, and bytes.
        group: patches of an image; 1 for images.
        seed: of random picks.

    Raises:
        ValueError: the rule needs what the candidates lack, or leaves too few for the budget.
    """
    order = None if isinstance(rule, Selector) else nested_order(rule, candidates, seed)
    if order is not None:
        places = _fitted(candidates, order, budget, group)
        if len(order) < len(candidates) and len(places) + group > len(order):
            raise ValueError(
                f"the window leaves {len(order)} of {len(candidates)} candidates, too few for the "
                f"{budget}; start it earlier or lower the ratio"
            )
        return _kept(order, np.ones(len(order)), places)
    return _chosen(pick(rule, candidates, seed), candidates, budget, group)


def _chosen(
    picked: Callable[[int], tuple], candidates: Candidates, budget: Budget, group: int
) -> Kept:
    """Search for how many picks fit.

    The picks of the rule depend on their number.
    """
    sizes = candidates.pixels
    mean = float(sizes.mean())
    count = min(len(candidates), max(1, round(budget.pixels / mean)) * group)
    rows, weights = picked(count)
    best, most = _kept(rows, weights, np.zeros(0, np.int64)), -1
    full, step = False, 1
    for _ in range(ROUNDS):
        found = _kept(rows, weights, _fitted(candidates, rows, budget, group))
        used = int(group_pixels(sizes[found.rows], group).sum())
        if used > most:
            best, most = found, used
        left = budget.pixels - used
        if count == len(candidates) or left < budget.pixels / ENOUGH:
            break
        if len(found.rows) + group > len(rows) and not full:
            # All picks fit. Ask for as many more as there is room for.
            count = min(len(candidates), count + max(1, int(left / mean)) * group)
            rows, weights = picked(count)
            continue
        # Some do not fit. The picks stay, and those of a larger number are offered after them.
        if left < sizes.min():
            break
        full, step = True, 2 * step
        count = min(len(candidates), count + step * group)
        try:
            more, theirs = picked(count)
        except ValueError:  # the rule has no more to give
            break
        new = ~np.isin(more, rows)
        rows, weights = np.append(rows, more[new]), np.append(weights, theirs[new])
    return best


def _kept(rows: Rows, weights: NDArray[np.float64], places: Rows) -> Kept:
    skipped = int(places.max()) + 1 - len(places) if len(places) else 0
    return Kept(rows[places], weights[places], skipped)


def _fitted(candidates: Candidates, rows: Rows, budget: Budget, group: int) -> Rows:
    """Find the places of the picks that are kept, hardest first."""
    margins = None if candidates.margins is None else candidates.margins[rows]
    # An image of patches has the size that its hardest patch gives it.
    if group > 1 and margins is not None and np.any(margins[1:] > margins[:-1]):
        return _rearranged(candidates.pixels[rows], margins, budget.pixels, group)
    sizes = None if candidates.bytes is None else candidates.bytes[rows]
    places = fitting(candidates.pixels[rows], sizes, budget, group)
    if margins is None:
        return places
    return places[np.argsort(-margins[places], kind="stable")]


def _rearranged(pixels: Rows, margins: NDArray[np.float32], most: int, group: int) -> Rows:
    """Find them by bisection, for patches not picked in order of hardness."""

    def arranged(places: Rows) -> Rows:
        return places[np.argsort(-margins[places], kind="stable")]

    def used(places: Rows) -> int:
        return int(group_pixels(pixels[arranged(places)], group).sum())

    kept = np.zeros(0, np.int64)
    rest = np.arange(len(pixels))
    for _ in range(TRIES):
        low, high = 0, len(rest) // group
        while low < high:
            # In later rounds there is room for few, so that one is tried first.
            middle = 1 if len(kept) and not low else (low + high + 1) // 2
            if used(np.concatenate([kept, rest[: middle * group]])) <= most:
                low = middle
            else:
                high = middle - 1
        kept, rest = np.concatenate([kept, rest[: low * group]]), rest[low * group :]
        left = most - used(kept)
        if left < most / ENOUGH:
            break
        fits = pixels[rest] <= left
        # A pick that fits alone may still move a larger one to the head of an image. Then the
        # largest of the next picks is passed over.
        if not low and len(kept):
            fits[np.argmax(pixels[rest[:group]])] = False
        rest = rest[fits]
        if len(rest) < group:
            break
    return arranged(kept)
