"""The compared methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_choice
from pretrain_jax.synthesis.rules import Candidates, nested_order, pick
from pretrain_jax.synthesis.storage import Budget, fitting, group_pixels
from selection import Selector
from theory import Policy

Rows = NDArray[np.int64]
ROUNDS = 12
TRIES = 64
ENOUGH = 1000  # a part of the budget that is not worth another try


class Kept(NamedTuple):
    """What is kept of a rule's picks.

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
    """Take a rule's picks in its order, skip what does not fit, arrange what is kept hardest first.

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
    """Picks that depend on how many are asked for: how many fit is known once they are there."""
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
            # All fit: ask for as many more as there is room for.
            count = min(len(candidates), count + max(1, int(left / mean)) * group)
            rows, weights = picked(count)
            continue
        # Some do not: the picks stay, and those of a larger number are offered after them.
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
    """Places of the picks that are kept, hardest first."""
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
    """The same for patches whose order of picks is not that of hardness: by bisection."""

    def arranged(places: Rows) -> Rows:
        return places[np.argsort(-margins[places], kind="stable")]

    def used(places: Rows) -> int:
        return int(group_pixels(pixels[arranged(places)], group).sum())

    kept = np.zeros(0, np.int64)
    rest = np.arange(len(pixels))
    for _ in range(TRIES):
        low, high = 0, len(rest) // group
        while low < high:
            # Later there is room for few: one is tried first.
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
        # What fits alone may still move a larger one to the head of an image: pass one over.
        if not low and len(kept):
            fits[np.argmax(pixels[rest[:group]])] = False
        rest = rest[fits]
        if len(rest) < group:
            break
    return arranged(kept)


Kind = Literal["index", "images", "patches"]

STITCHED = ("saliency", "sam")
# Proposers that draw.
CROPPED = ("random-crop",)


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


def method_from_name(name: str) -> Method:
    """The method called `name`; ValueError where there is none."""
    check_choice("method", name, METHODS)
    return METHODS[name]
