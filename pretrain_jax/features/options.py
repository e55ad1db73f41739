"""Checks the options of `embed`, before anything heavy is imported."""

from pathlib import Path
from typing import Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from hardset.folder import MANIFEST
from selection.commands.inputs import parse_budget
from selection.files import check_new_file
from selection.registry import METHOD_NAMES, check_method
from selection.selector import check_limit, check_seed

Tokens = Literal["class", "mean", "both"]
Precision = Literal["float16", "float32"]
# Methods of `selection` that need nothing but features.
METHODS = tuple(name for name, one in METHOD_NAMES.items() if one.needs in ("", "features"))


def check_embedding(
    tokens: str,
    dtype: str,
    frame_stride: int,
    batch_size: int,
    workers: int | None,
    skip_at_most: float,
    image_size: int | None,
) -> None:
    """Raise ValueError for an argument of `embed` outside its range."""
    check_choice("tokens", tokens, get_args(Tokens))
    check_choice("dtype", dtype, get_args(Precision))
    check_integer("frame_stride", frame_stride, 1, 2**31)
    check_integer("batch_size", batch_size, 1, 2**20)
    if workers is not None:
        check_integer("workers", workers, 1, 4096)
    if image_size is not None:
        check_integer("image_size", image_size, 1, 2**15)
    check_range("skip_at_most", skip_at_most, 0.0, 1.0)


def check_keeping(
    out: Path,
    folder: Path,
    method: str,
    budget: str,
    seed: int,
    per_group: int | None,
    near: float | None,
) -> None:
    """Raise ValueError for an argument of `keep` that is of no use.

    No file that it writes may be there. Beside finished features, in `folder`, sheet and table may
    be what a killed process left: they are compared when they are made.
    """
    check_method(method)
    name = method.partition(":")[0]
    if name not in METHODS:
        raise ValueError(
            f"method {name!r} needs {METHOD_NAMES[name].needs}; keep takes those that need "
            f"features alone: {', '.join(METHODS)}"
        )
    parse_budget(budget)
    check_seed(seed)
    check_limit(per_group, near)
    check_new_file(out, (".txt",))
    if not (folder / MANIFEST).is_file():
        for suffix in (".png", ".csv"):
            check_new_file(out.with_suffix(suffix), (suffix,))


def features_folder(out: Path, features: Path | None) -> Path:
    """Return the folder of the features, by default one beside the list."""
    return out.with_name("features.parquet") if features is None else features
