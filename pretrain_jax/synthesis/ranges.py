"""Valid ranges of the stages' arguments, which commands check before they load anything."""

from typing import get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.synthesis.methods import METHODS
from pretrain_jax.synthesis.storage import Storage, check_group

LARGEST_SEED = 2**63 - 1
SPACES = ("target", "pixel")


def check_scoring(masks: int, seed: int, space: str, batch_size: int, workers: int) -> None:
    """Check the arguments of `score`; ValueError names the one outside its range."""
    check_integer("masks", masks, 1, 1000)
    check_integer("seed", seed, 0, 2**31 - 1)
    check_integer("batch_size", batch_size, 1, 1 << 20)
    check_integer("workers", workers, 1, 1024)
    check_choice("space", space, SPACES)


def check_selecting(
    method: str, ratio: float, seed: int, rule: str | None, patches: int, storage: str
) -> None:
    """Check the arguments of `select`; ValueError names the one outside its range."""
    check_choice("method", method, METHODS)
    check_range("ratio", ratio, 0.0, 1.0, open_low=True)
    check_integer("seed", seed, 0, LARGEST_SEED)
    check_group(patches)
    check_choice("storage", storage, get_args(Storage))
    if method == "all" and (ratio != 1 or rule is not None):
        raise ValueError("method 'all' keeps everything: it takes ratio = 1 and no rule")
