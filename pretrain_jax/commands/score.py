"""The command `score`: the margins of patches, or of whole images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hardset.cli import Parser, integer
from pretrain_jax.commands.output import add_shard_options, report
from pretrain_jax.synthesis.methods import SPACES, check_scoring
from pretrain_jax.synthesis.proposers import PROPOSERS
from pretrain_jax.synthesis.tables import check_shards

EXAMPLES = """examples:
  python -m pretrain_jax score runs/optidel --of saliency
  python -m pretrain_jax score runs/optidel --of random-crop --features
  python -m pretrain_jax score runs/optidel --of images --probe runs/tiny
Scores lie in RUN/scores/NAME; those of images come with the probe's features, those of patches
with --features.
"""
IMAGES = "images"


def main(argv: Sequence[str]) -> int:
    """Score; returns the exit code."""
    options = _parser().parse_args(argv)
    check_scoring(options.masks, options.seed, options.space, options.batch_size, options.workers)
    check_shards(options.shard, options.shards)
    run = Path(options.run)
    source = run / "index" if options.of == IMAGES else run / "proposals" / options.of
    folder = run / "scores" / options.of
    from pretrain_jax.synthesis import score

    manifest = score(
        source,
        options.probe or run / "probe",
        folder,
        masks=options.masks,
        seed=options.seed,
        space=options.space,
        features=options.features,
        batch_size=options.batch_size,
        workers=options.workers,
        shards=options.shards,
        shard=options.shard,
        progress=sys.stderr.isatty() or options.progress,
    )
    report(folder, manifest, as_json=options.json)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pretrain_jax score",
        description="How badly the probe reconstructs what is hidden from it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder of the whole pipeline")
    parser.add_argument(
        "--of", choices=(IMAGES, *PROPOSERS), default="saliency", help="images, or whose patches"
    )
    parser.add_argument(
        "--probe", metavar="FOLDER", help="a run with a masked autoencoder, default RUN/probe"
    )
    parser.add_argument("--masks", type=integer, default=5, help="fixed masks of each patch")
    parser.add_argument(
        "--space",
        choices=SPACES,
        default="target",
        help="of the errors: the probe's training target, or pixels",
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="also write features of patches, for rules that compare them (images: always)",
    )
    parser.add_argument("--batch-size", type=integer, default=64, help="patches at once")
    parser.add_argument("--workers", type=integer, default=2, help="threads that decode images")
    parser.add_argument("--seed", type=integer, default=0, help="of the masks")
    add_shard_options(parser)
    parser.add_argument("--progress", action="store_true", help="draw the bar without a terminal")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    return parser
