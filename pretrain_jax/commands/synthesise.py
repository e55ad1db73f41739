"""The command `synthesise`: the smaller set that a selection describes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hardset.cli import Parser
from hardset.folder import read_manifest
from pretrain_jax.commands.output import report

EXAMPLES = """example:
  python -m pretrain_jax synthesise runs/optidel optidel-10
Reads RUN/selections/NAME and writes RUN/synthesised/NAME, whose data.txt is an image list to train
on: python -m pretrain_jax run PRESET --data.path runs/optidel/synthesised/optidel-10/data.txt
"""


def main(argv: Sequence[str]) -> int:
    """Synthesise; returns the exit code."""
    options = _parser().parse_args(argv)
    run = Path(options.run)
    selection, folder = (run / one / options.name for one in ("selections", "synthesised"))
    patches = read_manifest(selection, "select").parameters["patches"]
    progress = sys.stderr.isatty() or options.progress
    from pretrain_jax.synthesis import synthesise

    manifest = synthesise(selection, folder, patches=patches, progress=progress)
    report(folder, manifest, as_json=options.json)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pretrain_jax synthesise",
        description="Make images of the selected patches, or the list of the selected images.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder of the whole pipeline")
    parser.add_argument("name", metavar="NAME", help="of the selection, such as optidel-10")
    parser.add_argument("--progress", action="store_true", help="draw the bar without a terminal")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    return parser
