"""The command `propose`: patches of every image; makes the index of the images when missing."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardset.checks import check_integer, check_range
from hardset.cli import Parser, integer, number
from hardset.folder import MANIFEST
from pretrain_jax.commands.output import add_shard_options, report
from pretrain_jax.data.listing import COLLECTIONS
from pretrain_jax.data.opening import allow_megapixels
from pretrain_jax.synthesis.proposers import PROPOSERS, Proposer, proposer_from_name
from pretrain_jax.synthesis.sam import Sam
from pretrain_jax.synthesis.tables import check_shards

EXAMPLES = """examples:
  python -m pretrain_jax propose runs/optidel --data images/
  python -m pretrain_jax propose runs/optidel --data ldpolypvideo:LDPolypVideo/
  python -m pretrain_jax propose runs/optidel --proposer random-crop --most 8 --coco boxes.json
  python -m pretrain_jax propose runs/optidel --sam-checkpoint sam_vit_h_4b8939.pth
The images are indexed in RUN/index, the patches lie in RUN/proposals/PROPOSER.
"""
# Option -> field of the proposer, by proposer.
FIELDS = {
    "saliency": {"most": "patches", "min_area": "min_area", "max_area": "max_area"},
    "random-crop": {"most": "crops"},
    "sam": {"sam_checkpoint": "checkpoint"},
}


def main(argv: Sequence[str]) -> int:
    """Index and propose; returns the exit code."""
    options = _parser().parse_args(argv)
    run, progress = Path(options.run), sys.stderr.isatty() or options.progress
    if options.proposer is None:
        options.proposer = "saliency" if options.sam_checkpoint is None else "sam"
    check_integer("frame_stride", options.frame_stride, 1, 2**31)
    check_integer("seed", options.seed, 0, 2**63 - 1)
    check_shards(options.shard, options.shards)
    if options.max_skipped_share is not None:
        check_range("max_skipped_share", options.max_skipped_share, 0.0, 1.0)
    allow_megapixels(options.max_megapixels)
    proposer = proposer_from_name(options.proposer, **_fields(options))
    proposer.inputs()  # a missing checkpoint is said before images are read
    if options.coco is not None and options.coco.exists():
        raise ValueError(f"--coco: {options.coco} exists and is not replaced; choose another name")
    if options.data is None and not (run / "index" / MANIFEST).is_file():
        raise ValueError(f"{run / 'index'} holds no index yet: name the images with --data")
    from pretrain_jax.synthesis import index_images, propose

    shards = {"shards": options.shards, "shard": options.shard, "progress": progress}
    if options.data is not None:
        index = index_images(
            options.data,
            run / "index",
            frame_stride=options.frame_stride,
            max_skipped_share=options.max_skipped_share,
            max_megapixels=options.max_megapixels,
            **shards,
        )
        if index is None:
            report(run / "index", None, as_json=options.json)
            return 0
        if not options.json:
            report(run / "index", index, as_json=False)
    folder = run / "proposals" / proposer.name
    manifest = propose(
        run / "index",
        folder,
        proposer=proposer,
        seed=options.seed,
        max_skipped_share=options.max_skipped_share or 0.0,
        **shards,
    )
    report(folder, manifest, as_json=options.json)
    if options.coco is not None and manifest is not None:
        _export(folder, options.coco, proposer, as_json=options.json)
    return 0


def _export(folder: Path, target: Path, proposer: Proposer, *, as_json: bool) -> None:
    """The patches as a COCO file: of SAM its masks, of other proposers their boxes."""
    import numpy as np
    from numpy.typing import NDArray

    from pretrain_jax.segmentation import write_proposals
    from pretrain_jax.synthesis.proposing import MASKS

    masks_of = None
    if isinstance(proposer, Sam):
        regions = proposer.regions(folder / MASKS)

        def masks_of(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
            return regions(pixels)[1]

    count = write_proposals(folder, target, masks_of=masks_of)
    if not as_json:
        print(f"  {'annotations':<22}{count} in {target}")


def _fields(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of the proposer that were given; ValueError where it has no such option."""
    given = {
        name: getattr(options, name)
        for name in ("most", "min_area", "max_area", "sam_checkpoint")
        if getattr(options, name) is not None
    }
    fields: dict[str, Any] = {}
    if options.least_side is not None:
        fields["least_side"] = options.least_side
    if options.proposer == "sam":
        areas = {name: given.pop(name) for name in ("min_area", "max_area") if name in given}
        fields["generator"] = dataclasses.replace(Sam().generator, **areas)
    for name, value in given.items():
        if name not in FIELDS[options.proposer]:
            raise ValueError(
                f"--{name.replace('_', '-')} is no option of the proposer {options.proposer}"
            )
        fields[FIELDS[options.proposer][name]] = value
    return fields


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pretrain_jax propose",
        description="Find patches in every image.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="folder of the whole pipeline")
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help=f"folder, image list, video, or LAYOUT:FOLDER ({', '.join(COLLECTIONS)})",
    )
    parser.add_argument("--frame-stride", type=integer, default=1, help="of videos")
    parser.add_argument(
        "--max-skipped-share",
        type=number,
        help="share of the files that may be of no use; without it any number cannot be decoded, "
        "but none may be a broken link, have an odd name, NaN or a single pixel",
    )
    parser.add_argument(
        "--max-megapixels", type=number, help="of the largest image that is decoded, default 100"
    )
    parser.add_argument(
        "--proposer",
        choices=tuple(PROPOSERS),
        help="default saliency; sam where it has a checkpoint",
    )
    parser.add_argument("--most", type=integer, help="most patches of an image")
    parser.add_argument("--least-side", type=integer, help="pixels of a patch's shorter side")
    parser.add_argument("--min-area", type=number, help="least share of the image")
    parser.add_argument("--max-area", type=number, help="largest share of the image")
    parser.add_argument("--sam-checkpoint", type=Path, metavar="FILE", help="weights of sam")
    parser.add_argument("--seed", type=integer, default=0, help="of random crops")
    parser.add_argument(
        "--coco",
        type=Path,
        metavar="FILE",
        help="write the patches as COCO annotations, too: masks of SAM, else boxes",
    )
    add_shard_options(parser)
    parser.add_argument("--progress", action="store_true", help="draw the bar without a terminal")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    return parser
