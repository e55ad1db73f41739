"""Defines the commands of figures, which draw figures, list them, and explore."""

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from figures.figure import (
    FORMATS,
    FigureSpec,
    check_data,
    check_pictures,
    make_data,
    make_pictures,
)
from figures.registry import FIGURES
from figures.settings import OVERLAPS, PROBES, Settings, SimulatedSettings
from hardset.cli import Choice, Json, Option, Progress, check_output_folder, printable, wanted
from theory.policy_names import LOSSES, PLAIN_POLICIES

COMMANDS = {
    **{name: f"{__name__}:{name}" for name in FIGURES},
    "all": f"{__name__}:draw_all",
    "list": f"{__name__}:list_figures",
    "explore": "figures.explorer.serve:explore",
}

WORDS = {"policy": PLAIN_POLICIES, "probe": PROBES, "overlap": OVERLAPS, "loss": LOSSES}
Formats = Annotated[tuple[str, ...], Choice(FORMATS), Option("format")]


def __getattr__(name: str) -> Callable[..., int]:
    """Make the command of the figure `name`."""
    if name not in FIGURES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    spec = FIGURES[name]

    def command(**given: Any) -> int:
        return draw_figure(spec, **given)

    summary = spec.summary[0].upper() + spec.summary[1:] + "."
    defaults = {one: getattr(spec.defaults, one) for one in spec.options}
    found = _with_settings(command, draw_figure, summary, spec.defaults, defaults)
    found.__doc__ = (found.__doc__ or "").replace("NAME", name)
    return found


def check_options(argv: Sequence[str]) -> None:
    """Refuse an option that only other figures have, and say why.

    Raises:
        ValueError: the first such option.
    """
    spec = FIGURES.get(argv[0]) if argv else None
    if spec is None:
        return
    known = {field.name for one in FIGURES.values() for field in dataclasses.fields(one.defaults)}
    for option in (word.partition("=")[0] for word in argv[1:] if word.startswith("--")):
        name = option[2:].replace("-", "_")
        if name in known and name not in spec.options:
            reason = spec.reason(name)
            if reason:
                raise ValueError(f"{option}: the figure {spec.name} {reason}")
            own = ", ".join(f"--{one.replace('_', '-')}" for one in spec.options)
            raise ValueError(
                f"{option} has no effect on the figure {spec.name}, whose settings are {own}"
            )


def draw_figure(
    spec: FigureSpec,
    *,
    out: Path,
    formats: Formats = ("png", "pdf"),
    from_data: Path | None = None,
    progress: Progress = False,
    as_json: Json = False,
    **settings: Any,
) -> int:
    """Draw a figure.

    The data file NAME.nc is computed first and the picture is drawn from it alone. A rerun with
    the same settings computes only what is missing; a data file of other settings is never
    overwritten. The defaults are the publication's.

    Args:
        out: folder for the data file and the pictures.
        formats: of the pictures.
        from_data: a data file to be drawn again; nothing is computed.

    Examples:
        python -m figures NAME --out out/figures
        python -m figures NAME --from-data out/figures/NAME.nc --format svg --out redrawn
    """
    given = {k: v for k, v in settings.items() if v != getattr(spec.defaults, k)}
    if from_data is None:
        chosen = spec.settings(**given)
    elif given:
        raise ValueError(
            f"--{next(iter(given)).replace('_', '-')} has no effect with --from-data, which "
            "computes nothing; leave one of them out"
        )
    elif not from_data.is_file():
        raise ValueError(f"data file {from_data} does not exist")
    folder = check_output_folder(out)
    check_pictures(spec, folder, formats)
    data = from_data or make_data(spec, chosen, folder, progress=wanted(progress))
    report = _report(data, *make_pictures(spec, data, folder, formats))
    print(json.dumps(report, indent=1) if as_json else _text(report))
    return 0


def draw_all(
    *,
    out: Path,
    formats: Formats = ("png", "pdf"),
    keep_going: bool = False,
    progress: Progress = False,
    as_json: Json = False,
    **settings: Any,
) -> int:
    """Draw all figures, each with the settings that apply to it.

    A figure does not take a setting that it varies itself, or does not have. Without a setting each
    figure has its own default, the publication's.

    Args:
        out: folder for the data files and the pictures.
        formats: of the pictures.
        keep_going: leave out, by name, the figures that the settings do not suit; exit code 1 if
            there are any.

    Examples:
        python -m figures all --out out/published
        python -m figures all --dim 40 --keep-going --out out/small
    """
    given = {name: value for name, value in settings.items() if value is not None}
    attempts = _Attempts(keep_going)
    chosen: dict[str, Settings] = {}
    for spec in FIGURES.values():
        with attempts(spec):
            taken = {name: value for name, value in given.items() if name in spec.options}
            chosen[spec.name] = spec.settings(**taken)
            for name in given:
                if reason := spec.reason(name):
                    _warn("not taken", spec, f"--{name.replace('_', '-')}, it {reason}")
    folder = check_output_folder(out)
    for spec in attempts.left():
        with attempts(spec):
            check_data(spec, chosen[spec.name], folder)
            check_pictures(spec, folder, formats)
    reports = []
    for spec in attempts.left():
        with attempts(spec):
            data = make_data(spec, chosen[spec.name], folder, progress=wanted(progress))
            reports.append(_report(data, *make_pictures(spec, data, folder, formats)))
            if not as_json:
                print(_text(reports[-1]), flush=True)
    if as_json:
        print(json.dumps(reports, indent=1))
    return 1 if attempts.failed else 0


def list_figures(*, as_json: Json = False) -> int:
    """List the figures."""
    if as_json:
        print(json.dumps({spec.name: spec.summary for spec in FIGURES.values()}, indent=1))
    else:
        for spec in FIGURES.values():
            print(f"{spec.name:<17} {spec.summary}")
    return 0


class _Attempts:
    """A series of attempts to draw figures one by one.

    A figure that fails stops the series with its name, or is left out on request.
    """

    def __init__(self, keep_going: bool) -> None:
        self._keep_going = keep_going
        self.failed: set[str] = set()

    def left(self) -> list[FigureSpec]:
        """List the figures that have not failed."""
        return [spec for spec in FIGURES.values() if spec.name not in self.failed]

    @contextmanager
    def __call__(self, spec: FigureSpec) -> Iterator[None]:
        """Add the figure's name to a user's error.

        With `keep_going` the error is printed, and the block ends without it.
        """
        try:
            yield
        except ValueError as error:
            if not self._keep_going:
                raise ValueError(
                    f"figure {spec.name}: {error} (--keep-going leaves it out)"
                ) from None
            self.failed.add(spec.name)
            _warn("left out", spec, str(error))


def _warn(what: str, spec: FigureSpec, why: str) -> None:
    print(f"{what:<9} {spec.name}: {printable(why)}", file=sys.stderr)


def _report(data: Path, pictures: Sequence[Path], caption: str) -> dict[str, Any]:
    return {"data": str(data), "pictures": [str(path) for path in pictures], "caption": caption}


def _text(report: dict[str, Any]) -> str:
    pictures = [f"picture   {path}" for path in report["pictures"]]
    return "\n".join([f"data      {report['data']}", *pictures, f"caption   {report['caption']}"])


def _with_settings(
    command: Callable[..., int],
    model: Callable[..., int],
    summary: str,
    kind: Settings,
    defaults: dict[str, Any],
) -> Callable[..., int]:
    """Add the options and help of `model` and a figure's settings to a command.

    Args:
        command: takes what the options say.
        model: a function whose own options and docstring the command gets.
        summary: the first line of its help.
        kind: settings whose types and docstrings the settings' options have.
        defaults: of these options, by name; None for none.
    """
    own = [
        one for one in inspect.signature(model).parameters.values() if one.kind is one.KEYWORD_ONLY
    ]
    types = get_type_hints(type(kind))
    hints = get_type_hints(model, include_extras=True)
    more = []
    for name, default in defaults.items():
        hint = types[name] | None if default is None else types[name]
        hints[name] = Annotated[hint, Choice(WORDS[name])] if name in WORDS else hint
        more.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
    texts = _attributes(type(kind))
    lines = "".join(f"    {name}: {texts[name]}\n" for name in defaults)
    doc = inspect.getdoc(model) or ""
    doc = summary + doc[doc.index("\n") :].replace("Args:\n", f"Args:\n{lines}", 1)
    command.__doc__ = doc
    command.__annotations__ = {one.name: hints[one.name] for one in [*more, *own]}
    command.__signature__ = inspect.Signature([*more, *own])  # type: ignore[attr-defined]
    return command


def _attributes(kind: type) -> dict[str, str]:
    """Read the description of each attribute from the docstrings of a settings class."""
    found: dict[str, str] = {}
    for one in kind.__mro__[::-1]:
        section = (inspect.getdoc(one) or "").partition("Attributes:\n")[2]
        entries = re.split(r"^    (\w+): ", section, flags=re.M)[1:]
        found |= dict(zip(entries[::2], (" ".join(e.split()) for e in entries[1::2]), strict=True))
    return found


_with_settings(
    draw_all,
    draw_all,
    (inspect.getdoc(draw_all) or "").partition("\n")[0],
    FIGURES["fitting-error"].defaults,
    dict.fromkeys(field.name for field in dataclasses.fields(SimulatedSettings)),
)
