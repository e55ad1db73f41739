"""What a figure is: its data, its drawing and its caption, under one name."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

from figures.settings import OVERLAPS, BaseSettings, Settings
from figures.style import STYLE

__all__ = ["FigureSpec"]

S = TypeVar("S", bound=BaseSettings)
S_contra = TypeVar("S_contra", bound=BaseSettings, contravariant=True)


class Compute(Protocol[S_contra]):
    """Computes a figure's data."""

    def __call__(
        self, settings: S_contra, *, cache: Path | None = None, progress: bool = False
    ) -> xr.Dataset: ...


@dataclasses.dataclass(frozen=True)
class FigureSpec(Generic[S]):
    """A figure: compute -> data -> draw; drawing and caption read the data alone.

    Attributes:
        name: name on the command line and of the files.
        summary: one line for the list of figures.
        defaults: the publication's settings, `Settings` or the figure's own kind.
        several: settings that may hold more than one value.
        compute: the data from settings.
        drawing: the picture from data; call `draw`, which applies the style.
        caption: what the picture shows, in words, from data.
        overlaps: overlaps that the figure can be drawn with.
    """

    name: str
    summary: str
    defaults: S
    several: tuple[str, ...]
    compute: Compute[S]
    drawing: Callable[[xr.Dataset], Figure]
    caption: Callable[[xr.Dataset], str]
    overlaps: tuple[str, ...] = OVERLAPS

    @property
    def kind(self) -> str:
        """Kind of the figure's data file."""
        return f"figure {self.name}"

    def check(self, settings: S) -> None:
        """Raise ValueError if the figure cannot be drawn with `settings`."""
        if not isinstance(settings, Settings):
            return
        for name in ("alpha_total", "keep_fraction", "theta_deg"):
            values = getattr(settings, name)
            if len(values) > 1 and name not in self.several:
                raise ValueError(
                    f"{name} = {', '.join(f'{value:g}' for value in values)}: the figure "
                    f"{self.name} takes one value"
                )
        if settings.overlap not in self.overlaps:
            raise ValueError(
                f"overlap = {settings.overlap!r}: the figure {self.name} has only "
                f"{', '.join(self.overlaps)}"
            )

    def draw(self, dataset: xr.Dataset) -> Figure:
        """The picture of `dataset` in the house style."""
        with rc_context(STYLE):
            return self.drawing(dataset)
