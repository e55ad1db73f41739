"""Command line of the figures: python -m figures NAME --out DIR."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import FIGURES, FigureSpec, make_data, make_pictures
from figures.files import FORMATS, check_data
from figures.runs import read_runs
from figures.settings import BaseSettings
from hardset.cli import Numbers, Parser, check_output_folder, integer, run

EXAMPLES = """examples:
  python -m figures fitting-error --out out/figures
  python -m figures angle --dim 100 --draws 20 --theta-deg 0 20 --format svg --out out/figures
  python -m figures fitting-error --from-data out/figures/fitting-error.nc --out redrawn

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
            print(f"{spec.name:<15} {spec.summary}")
        return 0
    chosen = _chosen(arguments.name)
    if arguments.out is None:
        raise ValueError("--out DIR is missing: the folder for the data file and the pictures")
    overrides = _overrides(arguments)
    if arguments.from_data is not None:
        return _redraw(arguments, chosen, overrides)
    if "runs" in overrides:
        overrides["runs"] = read_runs(overrides["runs"])
    work = [(spec, _settings(spec, overrides, alone=len(chosen) == 1)) for spec in chosen]
    for spec, settings in work:
        spec.check(settings)
    folder = check_output_folder(arguments.out)
    for spec, settings in work:
        check_data(spec, settings, folder)
    for spec, settings in work:
        data = make_data(spec, settings, folder, progress=sys.stderr.isatty())
        _report(data, *make_pictures(spec, data, folder, arguments.format))
    return 0


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
    known = [field.name for field in dataclasses.fields(spec.defaults)]
    unknown = [name for name in overrides if name not in known]
    if unknown and alone:
        raise ValueError(
            f"--{unknown[0].replace('_', '-')} has no effect on the figure {spec.name}, whose "
            f"settings are {', '.join('--' + name.replace('_', '-') for name in known)}"
        )
    taken = {name: value for name, value in overrides.items() if name in known}
    settings: BaseSettings = dataclasses.replace(spec.defaults, **taken)
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
    folder = check_output_folder(arguments.out)
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


if __name__ == "__main__":
    sys.exit(run(main))
