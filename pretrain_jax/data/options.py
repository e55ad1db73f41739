"""Holds the options by which image files are read.

They are those of a process and of the processes that it starts: all decoders read them, and nobody
hands them on. A stage records those that differ from the default, and who reads its images again
adopts them.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from hardset.checks import check_choice, check_integer, check_range

MOST_MEGAPIXELS = 1e5
Pages = Literal["all", "first"]
FEWEST_BITS, WHOLE_BITS = 10, 16
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "max_megapixels": "HARDSET_MAX_MEGAPIXELS",
        "pages": "HARDSET_PAGES",
        "bits": "HARDSET_BITS",
    }
)
KINDS: Mapping[str, tuple[type, str]] = MappingProxyType(
    {"max_megapixels": (float, "a number of megapixels"), "bits": (int, "a number of bits")}
)
# Names of the parameters of a stage that records them.
READING = tuple(VARIABLES)
CONTENT = ("pages", "bits")


@dataclass(frozen=True)
class Reading:
    """Says how image files are read.

    Attributes:
        max_megapixels: of the largest image that is decoded.
        pages: whether "all" pictures of a file with several are images, or the "first" only.
        bits: of 16 that samples use where their file does not say, 10 to 16; None is not known.

    Raises:
        ValueError: out of range.
    """

    max_megapixels: float = 100.0
    pages: Pages = "all"
    bits: int | None = None

    def __post_init__(self) -> None:
        check_range("max_megapixels", self.max_megapixels, 0.0, MOST_MEGAPIXELS, open_low=True)
        check_choice("pages", self.pages, ("all", "first"))
        if self.bits is not None:
            check_integer("bits", self.bits, FEWEST_BITS, WHOLE_BITS)

    def parameters(self) -> dict[str, Any]:
        """Return those that differ from the default, as a stage records them."""
        default = asdict(Reading())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def content(self) -> dict[str, Any]:
        """Return those of them that decide what the images of readable files are."""
        return {name: value for name, value in self.parameters().items() if name in CONTENT}


def reading() -> Reading:
    """Return how this process reads image files.

    Raises:
        ValueError: an environment variable is out of range; names it.
    """
    return _reading(*(os.environ.get(variable) for variable in VARIABLES.values()))


@lru_cache(maxsize=16)
def _reading(*texts: str | None) -> Reading:
    given: dict[str, Any] = {}
    for (name, variable), text in zip(VARIABLES.items(), texts, strict=True):
        if text:
            kind, what = KINDS.get(name, (str, ""))
            try:
                given[name] = kind(text)
            except ValueError:
                raise ValueError(f"{variable} = {text!r} is not {what}") from None
            try:
                Reading(**{name: given[name]})
            except ValueError as error:
                told = str(error).removeprefix(name)
                raise ValueError(f"{variable}{told}") from None
    return Reading(**given)


def set_reading(**given: Any) -> None:
    """Set options of this process and of those that it starts.

    Those that are None stay as they are.

    Args:
        **given: fields of `Reading`.

    Raises:
        ValueError: out of range.
    """
    known = {name: value for name, value in given.items() if value is not None}
    Reading(**known)
    for name, value in known.items():
        os.environ[VARIABLES[name]] = str(value)


def adopt_reading(parameters: Mapping[str, Any]) -> None:
    """Read images as a stage read them whose parameters these are.

    The size limit stays where it is higher.
    """
    recorded = {name: parameters[name] for name in READING if name in parameters}
    adopted = asdict(Reading(**recorded))
    limit = max(adopted["max_megapixels"], reading().max_megapixels)
    for name, value in (adopted | {"max_megapixels": limit}).items():
        os.environ.pop(VARIABLES[name], None)
        if value != next(one.default for one in fields(Reading) if one.name == name):
            os.environ[VARIABLES[name]] = str(value)
