"""The compared methods."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hardset.checks import check_choice

__all__ = ["CROPPED", "METHODS", "Method", "method_from_name"]

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
