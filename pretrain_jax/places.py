"""Defines the layout of a pipeline's folder.

Its paths are formed here, and read back here.

    config.json                                what the pipeline is
    data/                                      images and masks that were shipped
    index/  leakage/                           stages of which there is one
    recommended/  toy-model/                   ratios of these names, each a stage
    probe/run  probe/half-0  probe/half-1      its runs; full.txt, half-0.txt: their images
    proposals/PROPOSER[/seed-DRAW]             boxes of patches
    scores/PROPOSER[/seed-DRAW]  scores/images[-half-0]
    selections/METHOD-PERCENT[/seed-DRAW]      what is kept
    synthesised/METHOD-PERCENT[/seed-DRAW]     the smaller set; data.txt lists its images
    pretrained/OBJECTIVE/METHOD-PERCENT/seed-SEED            with its run in run/
    finetuned/OBJECTIVE/METHOD-PERCENT/seed-SEED/[DATASET/]HEAD-MODE
    report[-NUMBER]/

Of the names in brackets the draw is there where every seed has a set of its own, the data set
where there are several.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hardset.folder import CLAIM, MANIFEST

INDEX, LEAKAGE, PROBE, PROPOSALS, SCORES = "index", "leakage", "probe", "proposals", "scores"
RECOMMENDED, TOY_MODEL = "recommended", "toy-model"
SELECTIONS, SYNTHESISED = "selections", "synthesised"
PRETRAINED, FINETUNED = "pretrained", "finetuned"
# The folders of stages, in the order in which a pipeline fills them; a report may be anywhere.
PARTS = (
    *(INDEX, LEAKAGE, PROBE, PROPOSALS, SCORES, RECOMMENDED, TOY_MODEL),
    *(SELECTIONS, SYNTHESISED, PRETRAINED, FINETUNED),
)
CONFIG, SHIPPED, FAILED = "config.json", "data", "failed.txt"
REPORT = re.compile(r"report(-\d+)?")
# In the stages that train: the run. Runs and image lists of the stage `probe`: those of all images,
# and of disjoint halves of them.
RUN, HALVES = "run", ("half-0", "half-1")
FULL_LIST, HALF_LISTS = "full.txt", tuple(f"{name}.txt" for name in HALVES)
# The images of a synthesised set.
DATA_LIST = "data.txt"
# Scores of images as a whole, among those of patches by proposer.
IMAGES = "images"
_RESULT = re.compile(rf"{FINETUNED}/([^/]+)/([^/]+)-([^-/]+)/seed-(\d+)/(.+)")


@dataclass(frozen=True)
class Cell:
    """Names a pre-training run of a pipeline.

    Attributes:
        objective: "mae" or "simclr"; "none" for training from scratch.
        method: how its images were chosen.
        ratio: 1 for the method "all".
        seed: of the run.
        draw: seed of its data set; None where that is the same for all seeds.
    """

    objective: str
    method: str
    ratio: float
    seed: int
    draw: int | None = None

    @property
    def name(self) -> str:
        """Return method and percent, as folders of runs have them."""
        return set_name(self.method, self.ratio)

    @property
    def selection(self) -> str:
        """Return the name of the run's data set.

        It is that of the run, or that of one draw in it where each draw has its own.
        """
        return _drawn(self.name, self.draw)

    @property
    def run(self) -> str:
        """Return the name of the run's folder.

        The folder lies below that of all runs of a kind.
        """
        return f"{self.objective}/{self.name}/{_seed(self.seed)}"


class ResultPlace(NamedTuple):
    """Holds what the place of a fine-tuned model says.

    `end` is the rest: data set, head and mode.
    """

    objective: str
    method: str
    percent: float
    seed: int
    end: str

    @property
    def pretrained(self) -> str:
        """Return the place of the pre-training that it needs."""
        return (
            f"{PRETRAINED}/{Cell(self.objective, self.method, self.percent / 100, self.seed).run}"
        )


@dataclass(frozen=True)
class Places:
    """Names the folders of one pipeline.

    Attributes:
        out: the pipeline's folder.
    """

    out: Path

    @property
    def index(self) -> Path:
        """Return the folder of the stage `index`."""
        return self.out / INDEX

    @property
    def leakage(self) -> Path:
        """Return the folder of the stage `leakage`."""
        return self.out / LEAKAGE

    @property
    def probe(self) -> Path:
        """Return the folder of the stage `probe`."""
        return self.out / PROBE

    @property
    def recommended(self) -> Path:
        """Return the folder of the stage `recommend`."""
        return self.out / RECOMMENDED

    @property
    def toy_model(self) -> Path:
        """Return the folder of the stage `toy-model`."""
        return self.out / TOY_MODEL

    def proposals(self, proposer: str, draw: int | None = None) -> Path:
        """Return the folder of a proposer's patches.

        The seed stands in it where the proposer draws.
        """
        return self.out / PROPOSALS / _drawn(proposer, draw)

    def scores(self, of: str, draw: int | None = None) -> Path:
        """Return the folder of scores of patches, or of whole images.

        The patches are those of one proposer.
        """
        return self.out / SCORES / _drawn(of, draw)

    def selection(self, name: str) -> Path:
        """Return the folder of a selection by its name.

        See `set_name`.
        """
        return self.out / SELECTIONS / name

    def synthesised(self, name: str) -> Path:
        """Return the folder of the set of a selection."""
        return self.out / SYNTHESISED / name

    def pretrained(self, cell: Cell) -> Path:
        """Return the folder of a pre-training run."""
        return self.out / PRETRAINED / cell.run

    def finetuned(self, cell: Cell, level: str, head: str, mode: str) -> Path:
        """Return the folder of a fine-tuning.

        `level` names its data set where there are several.
        """
        return self.out / finetuned_place(cell, level, f"{head}-{mode}")

    def report(self, number: int = 1) -> Path:
        """Return the folder of the report.

        With a number it is that of a later report.
        """
        return self.out / ("report" if number == 1 else f"report-{number}")


def set_name(method: str, ratio: float) -> str:
    """Name a set of a method at a ratio, as METHOD-PERCENT."""
    return f"{method}-{100 * ratio:g}"


def scratch_cell(seed: int) -> Cell:
    """Stand in for the pre-training of what is trained without any."""
    return Cell("none", "scratch", 0.0, seed)


def images_of_half(half: str) -> str:
    """Name the scores of whole images by the probe of one half."""
    return f"{IMAGES}-{half}"


def finetuned_place(cell: Cell, level: str, end: str) -> str:
    """Return the place of a fine-tuning in a pipeline's folder.

    `end` is HEAD-MODE.
    """
    return "/".join(part for part in (FINETUNED, cell.run, level, end) if part)


def parse_result(place: str) -> ResultPlace:
    """Read the place of a fine-tuned model.

    Raises:
        ValueError: another place.
    """
    found = _RESULT.fullmatch(place)
    if found is None:
        raise ValueError(
            f"{place} is no place of a result: "
            "finetuned/OBJECTIVE/METHOD-PERCENT/seed-NUMBER/HEAD-MODE is expected"
        )
    objective, method, percent, seed, end = found.groups()
    return ResultPlace(objective, method, float(percent), int(seed), end)


def stages_in(out: Path, part: str) -> Iterator[Path]:
    """Find the folders of begun and finished stages.

    They lie below one of PARTS, and come in the order of their places.

    Nothing inside a stage is looked at.
    """
    for root, folders, files in os.walk(out / part):
        folders.sort()
        if MANIFEST in files or CLAIM in files:
            folders.clear()
            yield Path(root)


def holds_stages(out: Path) -> bool:
    """Say whether a folder holds stages of a pipeline, and nothing else."""
    names = [one.name for one in out.iterdir() if not one.name.startswith(".")]
    known = {*PARTS, CONFIG, SHIPPED}
    if any(name not in known and not REPORT.fullmatch(name) for name in names):
        return False
    return any(True for part in PARTS for _ in stages_in(out, part))


def _drawn(name: str, draw: int | None) -> str:
    return name if draw is None else f"{name}/{_seed(draw)}"


def _seed(seed: int) -> str:
    return f"seed-{seed}"
