"""Defines the compared methods.

It also holds the valid ranges of what the stages take.

Commands check these before they load anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from hardset.checks import check_choice, check_integer, check_range

LARGEST_SEED = 2**63 - 1
LARGEST_GROUP = 1024
SPACES = ("target", "pixel")
# A share of the full set is one of its pixels, or of its pixels and its files' bytes.
Storage = Literal["pixels", "bytes"]
Kind = Literal["index", "images", "patches"]

STITCHED = ("saliency", "sam")
# Proposers that draw patches at random.
CROPPED = ("random-crop",)


@dataclass(frozen=True)
class Method:
    """Describes a way to make a smaller pre-training set.

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
        """Say whether another seed gives another set.

        It does where the method picks at random, or among random crops.
        """
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


def check_group(patches: int) -> None:
    """Check the number of patches of an image.

    Raises:
        ValueError: no square number from 1 to 1024.
    """
    check_integer("patches", patches, 1, LARGEST_GROUP)
    if round(patches**0.5) ** 2 != patches:
        raise ValueError(
            f"patches = {patches} is not a square number; an image is made of 1, 4, 9, ... patches"
        )


def check_scoring(masks: int, seed: int, space: str, batch_size: int, workers: int) -> None:
    """Check the arguments of `score`.

    The ValueError names the one outside its range.
    """
    check_integer("masks", masks, 1, 1000)
    check_integer("seed", seed, 0, 2**31 - 1)
    check_integer("batch_size", batch_size, 1, 1 << 20)
    check_integer("workers", workers, 1, 1024)
    check_choice("space", space, SPACES)


def check_selecting(
    method: str, ratio: float, seed: int, rule: str | None, patches: int, storage: str
) -> None:
    """Check the arguments of `select`.

    The ValueError names the one outside its range.
    """
    check_choice("method", method, METHODS)
    check_range("ratio", ratio, 0.0, 1.0, open_low=True)
    check_integer("seed", seed, 0, LARGEST_SEED)
    check_group(patches)
    check_choice("storage", storage, get_args(Storage))
    if method == "all" and (ratio != 1 or rule is not None):
        raise ValueError("method 'all' keeps everything: it takes ratio = 1 and no rule")
