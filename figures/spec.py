"""What a figure is: its data, its drawing and its caption, under one name."""

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from figures.settings import OVERLAPS, BaseSettings

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "FigureSpec"]

FORMATS = ("png", "pdf", "svg")

S = TypeVar("S", bound=BaseSettings)


@dataclasses.dataclass(frozen=True)
class FigureSpec(Generic[S]):
    """A figure: compute -> data -> draw; drawing and caption read the data alone.

    The module of the figure's name holds `compute`, `draw` and `caption`; it is imported when one
    of them is called.

    Attributes:
        name: name on the command line and of the files.
        summary: one line for the list of figures.
        defaults: the publication's settings, of the figure's own kind.
        several: settings that may hold more than one value.
        overlaps: overlaps that the figure can be drawn with.
        version: of the computation; raised when equal settings come to give other data.
    """

    name: str
    summary: str
    defaults: S
    several: tuple[str, ...]
    overlaps: tuple[str, ...] = OVERLAPS
    version: int = 1

    @property
    def kind(self) -> str:
        """Kind of the figure's data file."""
        return f"figure {self.name}"

    @property
    def _module(self) -> Any:
        return importlib.import_module(f"figures.{self.name.replace('-', '_')}")

    def check(self, settings: S) -> None:
        """Raise ValueError if the figure cannot be drawn with `settings`."""
        for name in ("alpha_total", "keep_fraction", "theta_deg"):
            values = getattr(settings, name, ())
            if len(values) > 1 and name not in self.several:
                raise ValueError(
                    f"{name} = {', '.join(f'{value:g}' for value in values)}: the figure "
                    f"{self.name} takes one value"
                )
        overlap = getattr(settings, "overlap", self.overlaps[0])
        if overlap not in self.overlaps:
            raise ValueError(
                f"overlap = {overlap!r}: the figure {self.name} has only {', '.join(self.overlaps)}"
            )

    def parameters(self, settings: S) -> dict[str, Any]:
        """All that the data depend on, as JSON types."""
        return {"version": self.version, **settings.parameters()}

    def compute(
        self, settings: S, *, cache: Path | None = None, progress: bool = False
    ) -> "xr.Dataset":
        """The data of `settings`.

        Args:
            settings: of the figure's kind.
            cache: folder for finished simulation cells; a rerun computes only what is missing.
            progress: show a progress bar.
        """
        dataset: xr.Dataset = self._module.compute(settings, cache=cache, progress=progress)
        return dataset

    def draw(self, dataset: "xr.Dataset") -> "Figure":
        """The picture of `dataset` in the house style."""
        from matplotlib import rc_context

        from figures.style import STYLE

        with rc_context(STYLE):
            picture: Figure = self._module.draw(dataset)
            return picture

    def caption(self, dataset: "xr.Dataset") -> str:
        """What the picture shows, in words."""
        words: str = self._module.caption(dataset)
        return words
