"""Makes figures: settings become a data file, and that file alone becomes a picture."""

import dataclasses
import importlib
import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from figures.settings import COMPANIONS, SYMBOLS, Settings, SimulatedSettings, lists_of, symbol
from hardset.checks import meant
from hardset.datafile import (
    DataFileError,
    OtherKindError,
    check_output_file,
    parameters_of,
    read_dataset,
    write_bytes_atomic,
    write_dataset,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
S = TypeVar("S", bound=Settings)
Drawn = TypeVar("Drawn", bound=Settings, contravariant=True)


class Drawing(Protocol[Drawn]):
    """A module, or an object in one, that computes and draws a figure."""

    def compute(self, settings: Drawn, *, cache: Path | None, progress: bool) -> "xr.Dataset":
        """Compute the data of `settings`."""

    def draw(self, dataset: "xr.Dataset", settings: Drawn) -> "Figure":
        """Draw the data."""

    def caption(self, dataset: "xr.Dataset", settings: Drawn) -> str:
        """Say in words what the picture shows."""


@dataclasses.dataclass(frozen=True)
class FigureSpec(Generic[S]):
    """A figure with a name, settings, and a module where it is computed and drawn.

    Attributes:
        name: name on the command line and of the files.
        summary: one line for the list of figures.
        place: module of the `Drawing`, or MODULE:OBJECT; imported when it is needed.
        defaults: the publication's settings, of the figure's own kind.
        several: settings of which the figure takes more than one value, and shows all.
        fixed: settings that the figure does not take, each with the reason as the predicate of a
            sentence about the figure.
        version: of the computation; raised when equal settings come to give other data.
    """

    name: str
    summary: str
    place: str
    defaults: S
    several: tuple[str, ...]
    fixed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    version: int = 1

    @property
    def kind(self) -> str:
        """Kind of the figure's data file."""
        return f"figure {self.name}"

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the settings that the figure takes."""
        names = (field.name for field in dataclasses.fields(self.defaults))
        return tuple(name for name in names if not self.reason(name))

    def reason(self, name: str) -> str:
        """Say why the figure does not take a setting, or return "" if it does."""
        return self.fixed.get(name) or self.fixed.get(COMPANIONS.get(name, ""), "")

    @property
    def drawing(self) -> Drawing[S]:
        """Import what computes and draws the figure, which takes seconds."""
        module, _, name = self.place.partition(":")
        found: Any = importlib.import_module(module)
        return getattr(found, name) if name else found

    def settings(self, **given: Any) -> S:
        """Replace some of the default settings.

        Raises:
            ValueError: the figure cannot be drawn with them.
        """
        if given.get("probe", "fixed") != "fixed":
            given.setdefault("theta_deg", ())
        chosen: S = dataclasses.replace(self.defaults, **given)
        self.check(chosen)
        return chosen

    def check(self, settings: S) -> None:
        """Raise ValueError if the figure cannot be drawn with `settings`."""
        for name, reason in self.fixed.items():
            value = getattr(settings, name)
            if value != getattr(self.defaults, name):
                raise ValueError(f"{_assignment(name, value)}: the figure {self.name} {reason}")
        for name, values in lists_of(settings).items():
            if len(values) > 1 and name in SYMBOLS and name not in self.several:
                raise ValueError(
                    f"{_assignment(name, values)}: the figure {self.name} takes one value"
                )

    def parameters(self, settings: S) -> dict[str, Any]:
        """Return all that the data depend on, as JSON types."""
        return {"version": self.version, **settings.parameters()}

    def settings_of(self, dataset: "xr.Dataset") -> S:
        """Read the settings that data were computed from.

        Raises:
            KeyError: they are those of another version of the figure.
        """
        found = parameters_of(dataset)
        names = {field.name for field in dataclasses.fields(self.defaults)}
        unknown = sorted(set(found) - names - {"version"})
        if unknown:
            raise KeyError(f"its parameter {unknown[0]} is unknown{meant(unknown[0], names)}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
            if name in names
        }
        try:
            return dataclasses.replace(self.defaults, **given)
        except TypeError as error:
            raise KeyError(f"its parameters are of another type, {error}") from None

    def compute(
        self, settings: S, *, cache: Path | None = None, progress: bool = False
    ) -> "xr.Dataset":
        """Compute the data of `settings`.

        Args:
            settings: of the figure's kind.
            cache: folder for finished simulation cells; a rerun computes only what is missing.
            progress: show a progress bar.
        """
        dataset = self.drawing.compute(settings, cache=cache, progress=progress)
        return dataset.assign_attrs(parameters=json.dumps(self.parameters(settings)))

    def draw(self, dataset: "xr.Dataset") -> "Figure":
        """Draw data in the common style of all figures.

        Settings that are not the defaults stand above the picture.
        """
        from matplotlib import rc_context
        from matplotlib.font_manager import FontProperties

        from hardset.pictures import STYLE

        settings = self.settings_of(dataset)
        with rc_context(STYLE):
            picture = self.drawing.draw(dataset, settings)
            words = [word.replace(" ", "\N{NO-BREAK SPACE}") for word in self.varied(settings)]
            note = textwrap.fill(", ".join(words), round(20 * picture.get_figwidth()))
            if note and picture.legends:
                picture.legends[0].set_title(note, FontProperties(size=STYLE["axes.titlesize"]))
            elif note:
                picture.suptitle(note, fontsize=STYLE["axes.titlesize"])
        return picture

    def varied(self, settings: S) -> list[str]:
        """List the settings that differ from the defaults and do not vary in the picture."""
        words = []
        for name in SYMBOLS:
            value = getattr(settings, name, None)
            if name in self.several or value in (None, (), getattr(self.defaults, name, None)):
                continue
            words.append(symbol(name, value[0] if isinstance(value, tuple) else value))
        return words

    def caption(self, dataset: "xr.Dataset") -> str:
        """Say in words what the picture shows, with its problem and simulation."""
        settings = self.settings_of(dataset)
        sentences = [self.drawing.caption(dataset, settings)]
        (redundancy, *_), (downstream_deg, *_) = settings.redundancy, settings.downstream_deg
        if "redundancy" not in self.several and redundancy != 1:
            sentences.append(
                f"The data hold {redundancy:g} copies of every distinct example, at constant total "
                "volume."
            )
        if "downstream_deg" not in self.several and downstream_deg:
            sentences.append(
                f"Errors are against a downstream teacher at {downstream_deg:.4g} degrees from "
                f"the teacher of the labels."
            )
        if isinstance(settings, SimulatedSettings):
            if settings.overlap == "pearson":
                sentences.append("Simulated overlaps are mean-centred (np.corrcoef).")
            sentences.append(f"N = {settings.dim}, {settings.draws} draws.")
        return " ".join(sentences)


def _assignment(name: str, value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    shown = (repr(one) if isinstance(one, str) else f"{one:g}" for one in values)
    return f"{name} = {', '.join(shown)}"


def data_path(spec: FigureSpec, folder: Path) -> Path:
    """Name a figure's data file in `folder`."""
    return folder / f"{spec.name}.nc"


def picture_path(spec: FigureSpec, folder: Path, name: str) -> Path:
    """Name a figure's picture in the format `name` in `folder`."""
    return folder / f"{spec.name}.{name}"


def check_data(spec: FigureSpec, settings: Settings, folder: Path) -> bool:
    """Check that a figure's data file is there or can be written.

    Args:
        spec: the figure.
        settings: what the data must have been computed from.
        folder: output folder.

    Returns:
        Whether the data are there already.

    Raises:
        ValueError: data of other parameters, with the first parameter that differs.
        hardset.datafile.DataFileError: a damaged or foreign file under the data file's name.
        OSError: the file cannot be written.
    """
    path = check_output_file(data_path(spec, folder))
    if not path.exists():
        return False
    found = parameters_of(read_dataset(path, kind=spec.kind))
    wanted = spec.parameters(settings)
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if name not in found or name not in wanted:
            raise ValueError(
                f"data file {path} is of another version of this figure, "
                f"{'with' if name in found else 'without'} the parameter {name}; choose another "
                "--out, or delete the file"
            )
        if found[name] != wanted[name]:
            raise ValueError(
                f"data file {path} was computed with {name} = {found[name]}, not "
                f"{wanted[name]}; choose another --out, or delete the file"
            )
    return True


def check_pictures(spec: FigureSpec, folder: Path, formats: Iterable[str]) -> None:
    """Raise OSError where a figure's picture could not be written."""
    for name in formats:
        check_output_file(picture_path(spec, folder, name))


def make_data(spec: FigureSpec, settings: Settings, folder: Path, *, progress: bool) -> Path:
    """Compute the figure's data file, or keep the one that is there.

    Args:
        spec: the figure.
        settings: its settings.
        folder: output folder; finished simulation cells are kept in its subfolder `cells` and
            shared by all figures.
        progress: show a progress bar.

    Returns:
        The data file's path.

    Raises:
        ValueError: see `check_data`; also where another process wrote such data meanwhile.
        OSError: the data cannot be written; names the file.
    """
    path = data_path(spec, folder)
    if check_data(spec, settings, folder):
        return path
    dataset = spec.compute(settings, cache=folder / "cells", progress=progress)
    try:
        write_dataset(
            dataset, path, kind=spec.kind, parameters=spec.parameters(settings), replace=False
        )
    except FileExistsError:
        # Another process was faster. Equal data are as good, and other data are left alone.
        try:
            check_data(spec, settings, folder)
        except ValueError as error:
            raise ValueError(
                f"another process wrote {path} while this one computed; the simulated cells are "
                f"kept in {folder / 'cells'}: {error}"
            ) from None
    return path


def read_figure(path: Path, kind: str) -> "xr.Dataset":
    """Read the data file of a figure, or say which command draws it.

    Args:
        path: the data file.
        kind: the kind that it must have, "figure NAME".

    Raises:
        hardset.datafile.DataFileError: see `hardset.datafile.read_dataset`.
    """
    try:
        return read_dataset(path, kind=kind)
    except OtherKindError as error:
        other = error.kind.removeprefix("figure ")
        if other == error.kind or not other.replace("-", "").isalpha():
            raise
        raise DataFileError(
            f"{error}: draw it by hardset figures {other} --from-data {shlex.quote(str(path))} "
            "--out FOLDER"
        ) from None


def make_pictures(
    spec: FigureSpec, data: Path, folder: Path, formats: Iterable[str]
) -> tuple[list[Path], str]:
    """Draw the pictures of a data file.

    Args:
        spec: the figure.
        data: its data file.
        folder: where the pictures go, as NAME.FORMAT.
        formats: some of FORMATS.

    Returns:
        The pictures' paths, and the caption.

    Raises:
        hardset.datafile.DataFileError: the file is damaged, foreign or lacks something.
        OSError: a picture cannot be written; names it.
    """
    dataset = read_figure(data, spec.kind)
    with _complete(data):
        from hardset.pictures import rendered

        words = spec.caption(dataset)
        pictures = {
            picture_path(spec, folder, name): rendered(lambda: spec.draw(dataset), name, words)
            for name in formats
        }
    for path, picture in pictures.items():
        write_bytes_atomic(path, picture)
    return list(pictures), words


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Turn the error of an incomplete data file into a sentence.

    The sentence says which variable or parameter the file lacks.
    """
    try:
        yield
    except KeyError as error:
        lacking = str(error.args[0]).splitlines()[0]
        raise DataFileError(
            f"data file {path} is incomplete, or of another version of this figure: {lacking}; "
            "compute it again in another --out"
        ) from None
