"""The rules by which methods pick: policies of the theory and methods of `selection`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_range
from replica import SearchStatus, optimal_fraction
from selection import SELECTORS, Pool, Selector, parse_method
from theory import POLICY_NAMES, Policy, policy_from_name

Rows = NDArray[np.int64]
SIGNED = ("hard-signed", "easy-signed")


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is picked from.

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
        """How many there are."""
        return len(self.ids)


def parse_rule(text: str) -> Policy | Selector:
    """A policy of `theory` or a method of `selection`, as NAME or NAME:option=value,...

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
    """All rows in the order in which a policy picks them; None where a larger pick changes it.

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
    """The function count -> (rows, weights) of a rule whose picks are not nested.

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
    """Rows by descending margin, equal ones by row; ValueError without margins."""
    if candidates.margins is None:
        raise ValueError("this rule ranks by margin; give the folder of a stage score")
    return np.argsort(-candidates.margins, kind="stable")


def recommended_ratio(alpha_total: float, theta_deg: float, rule: str = "hard") -> float:
    """The smallest of the best fractions in the theory, at a data set's coordinates.

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
