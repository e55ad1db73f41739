"""What `python -m figures NAME --out DIR` does."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures.figure import FORMATS, BaseSettings, FigureSpec
from figures.registry import FIGURES
from hardset.cli import Numbers, Parser, check_output_folder, integer, printable
from pretrain_jax.report.runs import read_runs

EXAMPLES = """examples:
  python -m figures fitting-error --out out/figures
  python -m figures angle --dim 100 --draws 20 --theta-deg 0 20 --format svg --out out/figures
  python -m figures fitting-error --from-data out/figures/fitting-error.nc --out redrawn
  python -m figures all --dim 40 --keep-going --out out/small

A rerun with the same parameters computes only what is missing; an existing data file of other
parameters is never overwritten."""

_SETTINGS = ("dim", "draws", "seed", "alpha_total", "keep_fraction", "theta_deg", "overlap", "runs")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m figures",
        description="Compute a figure's data file and draw it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help=f"{', '.join(FIGURES)}, or all")
    parser.add_argument("--list", action="store_true", help="list the figures and stop")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for data and pictures")
    parser.add_argument(
        "--format", nargs="+", choices=FORMATS, default=["png", "pdf"], help="default: png pdf"
    )
    parser.add_argument(
        "--from-data", type=Path, metavar="FILE", help="redraw this data file, compute nothing"
    )
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="with all: leave out, by name, the figures that these settings do not suit; exit code "
        "1 if there are any",
    )
    group = parser.add_argument_group("settings, default those of the publication")
    group.add_argument("--dim", type=integer, help="input dimension N of the simulation")
    group.add_argument("--draws", type=integer, help="draws a point")
    group.add_argument("--seed", type=integer, help="seed of the draws")
    group.add_argument(
        "--alpha-total", action=Numbers, nargs="+", metavar="X", help="total examples / N"
    )
    group.add_argument(
        "--keep-fraction", action=Numbers, nargs="+", metavar="X", help="simulated f"
    )
    group.add_argument(
        "--theta-deg", action=Numbers, nargs="+", metavar="X", help="probe angles, 0 to 90 degrees"
    )
    group.add_argument("--overlap", help="cosine, or pearson as in the published notebook")
    group.add_argument(
        "--runs", type=Path, metavar="FILE", help="CSV or JSON of own runs, for benchmark-tables"
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.list:
        for spec in FIGURES.values():
            print(f"{spec.name:<16} {spec.summary}")
        return 0
    chosen = _chosen(arguments.name)
    if arguments.out is None:
        raise ValueError("--out DIR is missing: the folder for the data file and the pictures")
    if arguments.keep_going and len(chosen) == 1:
        raise ValueError("--keep-going has no effect on one figure, only on all")
    overrides = _overrides(arguments)
    if arguments.from_data is not None:
        return _redraw(arguments, chosen, overrides)
    if "runs" in overrides:
        overrides["runs"] = read_runs(overrides["runs"])
    alone = len(chosen) == 1
    attempts = _Attempts(alone, arguments.keep_going)
    settings: dict[str, BaseSettings] = {}
    for spec in chosen:
        with attempts(spec):
            settings[spec.name] = _settings(spec, overrides, alone=alone)
    folder = check_output_folder(arguments.out)
    # What computes and draws takes seconds to import: not for --help, not for a wrong argument.
    from figures.figure import check_data, check_pictures, make_data, make_pictures

    for spec in attempts.left(chosen):
        with attempts(spec):
            check_data(spec, settings[spec.name], folder)
            check_pictures(spec, folder, arguments.format)
    for spec in attempts.left(chosen):
        with attempts(spec):
            data = make_data(spec, settings[spec.name], folder, progress=sys.stderr.isatty())
            _report(data, *make_pictures(spec, data, folder, arguments.format))
    return 1 if attempts.failed else 0


class _Attempts:
    """Figures that are tried one by one; those that fail are named, and left out if asked for."""

    def __init__(self, alone: bool, keep_going: bool) -> None:
        self._alone = alone
        self._keep_going = keep_going
        self.failed: set[str] = set()

    def left(self, chosen: Sequence[FigureSpec]) -> list[FigureSpec]:
        """Those that have not failed."""
        return [spec for spec in chosen if spec.name not in self.failed]

    @contextmanager
    def __call__(self, spec: FigureSpec) -> Iterator[None]:
        """Name the figure in what its user got wrong; on request print that and go on."""
        try:
            yield
        except ValueError as error:
            if self._alone:
                raise
            if not self._keep_going:
                raise ValueError(
                    f"figure {spec.name}: {error} (--keep-going leaves it out)"
                ) from None
            self.failed.add(spec.name)
            print(f"left out  {spec.name}: {printable(str(error))}", file=sys.stderr)


def _chosen(name: str | None) -> list[FigureSpec]:
    if name == "all":
        return list(FIGURES.values())
    if name not in FIGURES:
        given = "is missing" if name is None else f"= {name!r} is unknown"
        raise ValueError(f"figure name {given}; choose one of {', '.join(FIGURES)}, or all")
    return [FIGURES[name]]


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name in _SETTINGS}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value is not None
    }


def _settings(spec: FigureSpec, overrides: dict[str, Any], *, alone: bool) -> BaseSettings:
    """The figure's settings; among several figures each takes those that it has."""
    fields = {field.name for field in dataclasses.fields(spec.defaults)}
    known = [name for name in _SETTINGS if name in fields]
    unknown = [name for name in overrides if name not in known]
    if unknown and alone:
        raise ValueError(
            f"--{unknown[0].replace('_', '-')} has no effect on the figure {spec.name}, whose "
            f"settings are {', '.join('--' + name.replace('_', '-') for name in known) or 'fixed'}"
        )
    taken = {name: value for name, value in overrides.items() if name in known}
    settings: BaseSettings = dataclasses.replace(spec.defaults, **taken)
    spec.check(settings)
    return settings


def _redraw(
    arguments: argparse.Namespace, chosen: list[FigureSpec], overrides: dict[str, Any]
) -> int:
    if len(chosen) > 1:
        raise ValueError("--from-data redraws one figure; name it instead of all")
    if overrides:
        raise ValueError(
            f"--{next(iter(overrides)).replace('_', '-')} has no effect with --from-data, which "
            "computes nothing; leave one of them out"
        )
    if not arguments.from_data.is_file():
        raise ValueError(f"data file {arguments.from_data} does not exist")
    folder = check_output_folder(arguments.out)
    from figures.figure import check_pictures, make_pictures

    check_pictures(chosen[0], folder, arguments.format)
    _report(
        arguments.from_data,
        *make_pictures(chosen[0], arguments.from_data, folder, arguments.format),
    )
    return 0


def _report(data: Path, pictures: list[Path], caption: str) -> None:
    print(f"data      {data}")
    for picture in pictures:
        print(f"picture   {picture}")
    print(f"caption   {caption}")
