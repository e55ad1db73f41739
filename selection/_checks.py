"""Checks of options that are one of a few words."""

from typing import Any, get_args

__all__ = ["check_choice"]


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise ValueError unless `value` is one of the words of the Literal type `choices`."""
    if value not in get_args(choices):
        raise ValueError(f"{name} = {value!r} is not one of {', '.join(get_args(choices))}")
