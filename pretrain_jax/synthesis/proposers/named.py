"""Proposers by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from hardset.checks import check_choice
from pretrain_jax.synthesis.proposers.base import Proposer
from pretrain_jax.synthesis.proposers.random_crop import RandomCrop
from pretrain_jax.synthesis.proposers.saliency import Saliency
from pretrain_jax.synthesis.proposers.sam import Sam

PROPOSERS: Mapping[str, Callable[..., Proposer]] = MappingProxyType(
    {one.name: one for one in (Saliency, RandomCrop, Sam)}
)


def proposer_from_name(name: str, **options: Any) -> Proposer:
    """The proposer called `name` with some fields other than their defaults.

    Raises:
        ValueError: an unknown name, or a value outside its range.
        TypeError: a field that the proposer lacks.
    """
    check_choice("proposer", name, PROPOSERS)
    return PROPOSERS[name](**options)
