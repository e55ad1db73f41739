"""The command `finetune`: a preset on a segmentation set, every field of which is an option."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardset.checks import check_choice
from pretrain_jax.commands.options import Command
from pretrain_jax.data.opening import allow_megapixels
from pretrain_jax.segmentation.config import FINETUNE_PRESETS, FinetuneConfig
from pretrain_jax.segmentation.layouts import PUBLISHED
from pretrain_jax.synthesis.source import check_outside

# Of the notes that are printed at once.
WARNED = ("seem to show", "none of the ", "image(s) hold", "image(s) hardly")
PROGRAM = "python -m pretrain_jax finetune"
USAGE = f"""usage: {PROGRAM} DATA PRESET --out FOLDER [options]

DATA is the folder of a segmentation set, PRESET one of {", ".join(FINETUNE_PRESETS)}; every field
of a preset is an option ({PROGRAM} DATA PRESET --help lists them).
layouts: folder (images/, masks/, optionally classes.txt and cases.csv), {", ".join(PUBLISHED)}
examples:
  {PROGRAM} Kvasir-SEG reference --layout kvasir-seg --run out/pretrained/mae/optidel-5/seed-0 \\
    --pretraining images/ --out out/kvasir-seg
  {PROGRAM} Kvasir-SEG reference --layout kvasir-seg --mode scratch --out out/from-scratch
  {PROGRAM} slices demo --head linear --mode frozen --run runs/demo --out out/linear
The same command again goes on where it was interrupted.
"""


@dataclass(frozen=True)
class Options:
    """What is not the configuration.

    Attributes:
        out: the stage's folder.
        run: of pre-training: its stage's folder, a run, or a checkpoint; none from scratch.
        layout: of the data.
        pretraining: images for pre-training, among which no test case may be: a folder,
            LAYOUT:FOLDER, a list or a video.
        max_megapixels: of the largest image or mask that is read; default 100.
        seed: of all random choices.
        progress: draw the progress bar even without a terminal.
        json: print the record.
    """

    out: str = ""
    run: str | None = None
    layout: str = "folder"
    pretraining: str | None = None
    max_megapixels: float | None = None
    seed: int = 0
    progress: bool = False
    json: bool = False


def main(argv: Sequence[str]) -> int:
    """Fine-tune; returns the exit code."""
    found = Command(PROGRAM, USAGE, ("data", "preset"), _preset, Options()).parse(argv)
    if found is None:
        return 0
    (data,), config, options = found
    if not options.out:
        raise ValueError(f"--out is missing: the folder of the results (see {PROGRAM} --help)")
    allow_megapixels(options.max_megapixels)
    source = options.pretraining
    for taken in (data, source):
        if taken is not None:
            check_outside(taken, options.out)
    config.check()
    from hardset.folder import output
    from pretrain_jax.segmentation import finetune, frames_of, read_segmentation
    from pretrain_jax.segmentation.finetuning import RESULT_NAME

    dataset = read_segmentation(data, options.layout)
    manifest = finetune(
        options.run,
        dataset,
        options.out,
        config=config,
        seed=options.seed,
        pretraining=None if source is None else frames_of(source),
        progress=options.progress or sys.stderr.isatty(),
    )
    for note in manifest.notes:
        if any(one in note for one in WARNED):
            print(f"warning: {note}", file=sys.stderr)
    folder = Path(options.out)
    record = json.loads(output(folder, manifest, RESULT_NAME).read_text(encoding="utf-8"))
    print(json.dumps(record, indent=1) if options.json else _report(folder, record))
    return 0


def _preset(name: str) -> FinetuneConfig:
    check_choice("preset", name, FINETUNE_PRESETS)
    return FINETUNE_PRESETS[name]


def _report(folder: Path, record: dict[str, Any]) -> str:
    from pretrain_jax.segmentation.finetuning import OVERLAYS_NAME

    lines = [f"{folder}: {record['head']} {record['mode']}, {len(record['cases'])} test cases"]
    rows = {"mIoU": "miou", "Dice": "dice", "boundary F": "boundary_f"}
    lines += [f"  {title:<22}{_shown(record[key])}" for title, key in rows.items()]
    lines += [
        f"  {f'IoU of {name}':<22}{_shown(scores['iou'])}"
        for name, scores in record["per_class"].items()
    ]
    lines += [
        f"  {f'mIoU of {name}':<22}{_shown(scores['miou'])}"
        for name, scores in record["baselines"].items()
    ]
    return "\n".join([*lines, f"  {'pictures':<22}{folder / OVERLAYS_NAME}"])


def _shown(score: dict[str, float | None]) -> str:
    if score["value"] is None:
        return "not defined"
    return f"{score['value']:.4f}  [{score['low']:.4f}, {score['high']:.4f}]"
