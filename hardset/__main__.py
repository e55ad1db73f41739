"""Command line of all packages: hardset PACKAGE ..., and hardset verify PATH."""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hardset.cli import Parser, front
from hardset.start import keep_freed_memory, start

TRAINS = "pretrain_jax"
PACKAGES = {
    "replica": "exact fitting error of a student trained on selected data",
    "sims": "the same by simulation; your own data; theory against simulation",
    "figures": "figures: their data files and pictures",
    "selection": "which examples of a data set to keep",
    TRAINS: "from images to pre-trained models and a report",
}
VERIFY = "verify"


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code (of `verify` 1 where something has changed)."""
    if argv and argv[0] in PACKAGES:
        package = importlib.import_module(f"{argv[0]}.__main__")
        code: int = package.main(argv[1:])
        return code
    options = _parser().parse_args(argv)
    return _verify(options)


def console() -> None:
    """Entry point of the console command."""
    if sys.argv[1:2] == [TRAINS]:
        # Before anything allocates, as the package's own entry does.
        keep_freed_memory()
    start(main)


def _verify(options: argparse.Namespace) -> int:
    from tqdm import tqdm  # not needed to say what is wrong with the arguments

    from hardset.verify import verify

    hidden = not (options.progress or sys.stderr.isatty())
    with tqdm(unit="file", file=sys.stderr, disable=hidden, leave=False) as bar:
        found = verify(options.paths, bar.update)
    print(json.dumps(found.report(), indent=1) if options.json else found.text())
    return 0 if found.passed else 1


def _path(text: str) -> Path:
    """argparse type of a path; pathlib would take an empty shell variable for this folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path; name a file or a folder")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=front() or "hardset",
        description="Which examples to keep: theory, simulation, selection, pre-training.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        VERIFY,
        help="re-check files and folders against their checksums",
        description="Re-check files and whole folders: by the checksums inside files, by the "
        "manifests of stages, and by the tables of sets. One line for each file that has changed, "
        "is missing, cannot be read, or lies unlisted in a stage's folder; counts at the end. "
        "Exit code 0 if nothing has changed, 1 if something has, 2 for a path that is not there.",
    )
    check.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="files and folders")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument("--progress", action="store_true", help="even without a terminal")
    for name, about in PACKAGES.items():
        # Listed here for --help; `main` hands the arguments to the package.
        commands.add_parser(name, help=about, add_help=False)
    return parser


if __name__ == "__main__":
    console()
