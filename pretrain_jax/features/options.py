"""Checks the options of `embed`, before anything heavy is imported."""

from typing import Literal, get_args

from hardset.checks import check_choice, check_integer, check_range

Tokens = Literal["class", "mean", "both"]
Precision = Literal["float16", "float32"]


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
