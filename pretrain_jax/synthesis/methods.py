"""The compared methods, and the rules by which they pick."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice, check_range
from replica import SearchStatus, optimal_fraction
from selection import SELECTORS, Pool, Selector, parse_method
from theory import POLICY_NAMES, Policy, policy_from_name

__all__ = [
    "METHODS",
    "Candidates",
    "Method",
    "method_from_name",
    "nested_order",
    "parse_rule",
    "pick",
    "recommended_ratio",
]

Rows = NDArray[np.int64]
Kind = Literal["index", "images", "patches"]

STITCHED = ("saliency", "sam")
# Proposers that draw.
CROPPED = ("random-crop",)
SIGNED = ("hard-signed", "easy-signed")


@dataclass(frozen=True)
class Method:
    """A way to make a smaller pre-training set.

    Attributes:
        name: on the command line and in folders' names.
        source: what it picks: whole images of the "index", scored "images", or "patches".
        rule: how, see `parse_rule`.
        about: one line.
        proposers: whose patches; of several the first is the default.
        scored: whether margins are needed.
    """

    name: str
    source: Kind
    rule: str
    about: str
    proposers: tuple[str, ...] = ()
    scored: bool = True

    @property
    def draws(self) -> bool:
        """Whether another seed gives another set: it picks at random, or among random crops."""
        return self.name != "all" and (self.rule == "random" or self.proposers == CROPPED)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        one.name: one
        for one in (
            Method("all", "index", "random", "every image", scored=False),
            Method("random", "index", "random", "images at random", scored=False),
            Method(
                "meddel",
                "images",
                "meddel:exact=true",
                "images without near-duplicates of the probe's features (arXiv:2401.17542)",
            ),
            Method(
                "infomax",
                "images",
                "infomax",
                "hard images without redundant pairs (arXiv:2506.01701)",
            ),
            Method("hard-images", "images", "hard", "the hardest whole images"),
            Method("optidel", "patches", "hard", "the hardest salient patches, stitched", STITCHED),
            Method(
                "optidel-s",
                "patches",
                "hard",
                "the hardest random crops, stitched",
                CROPPED,
            ),
            Method(
                "random-patches",
                "patches",
                "random",
                "patches at random, stitched",
                (*STITCHED, *CROPPED),
                scored=False,
            ),
        )
    }
)


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


def method_from_name(name: str) -> Method:
    """The method called `name`; ValueError where there is none."""
    check_choice("method", name, METHODS)
    return METHODS[name]


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
