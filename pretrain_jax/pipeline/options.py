"""Parts of a pipeline's configuration: probe, proposers, margins, runs of one objective."""

from dataclasses import dataclass, field
from typing import Literal

from hardset.checks import check_choice
from pretrain_jax.synthesis.proposers.boxes import Proposer
from pretrain_jax.synthesis.proposers.random_crop import RandomCrop
from pretrain_jax.synthesis.proposers.saliency import Saliency
from pretrain_jax.synthesis.proposers.sam import Sam
from pretrain_jax.train.config import TrainConfig

__all__ = [
    "SAM_PATCHES",
    "Cell",
    "ProbeOptions",
    "ProposeOptions",
    "Protocol",
    "ScoreOptions",
    "Trials",
    "draw_folder",
]

# Masks of an image that pass SAM's filters: an assumption, data sets differ.
SAM_PATCHES = 30
# Equal optimiser steps for every run, or equal epochs.
Protocol = Literal["matched", "paper"]


@dataclass(frozen=True)
class ProbeOptions:
    """The masked autoencoder whose reconstruction errors are the margins.

    Attributes:
        checkpoint: a run's folder, or a file (.pth, .safetensors) in the layout of the MAE code
            or of transformers; None trains `mae.train` on the full set, which counts as a cost.
        halves: whether two more are trained on disjoint halves of the images, from which the
            report estimates the angle theta between probe and target.
    """

    checkpoint: str | None = None
    halves: bool = False


@dataclass(frozen=True)
class ProposeOptions:
    """Where the patches come from: those of OptiDEL from `proposer`, of OptiDEL-S from crops.

    Attributes:
        proposer: "sam" or "saliency"; "auto" is sam where `sam.checkpoint` is given.
        sam: settings of the proposer sam.
        saliency: settings of the proposer saliency.
        random_crop: settings of the random crops.
    """

    proposer: Literal["auto", "sam", "saliency"] = "auto"
    sam: Sam = field(default_factory=Sam)
    saliency: Saliency = field(default_factory=Saliency)
    random_crop: RandomCrop = field(default_factory=RandomCrop)

    @property
    def chosen(self) -> str:
        """The proposer's name, with "auto" resolved."""
        if self.proposer != "auto":
            return self.proposer
        return "saliency" if self.sam.checkpoint is None else "sam"

    def check(self) -> None:
        """Check the proposer and that its weights are there.

        Raises:
            ValueError: an unknown proposer, sam without a checkpoint or with one that is no file,
                a checkpoint for another proposer.
        """
        check_choice("propose.proposer", self.proposer, ("auto", "sam", "saliency"))
        if self.chosen == "sam":
            self.sam.inputs()  # raises without a checkpoint
        elif self.sam.checkpoint is not None:
            raise ValueError(
                f"propose.sam.checkpoint = {self.sam.checkpoint} is of no use to propose.proposer "
                f"= {self.proposer}: leave one of them out"
            )

    def named(self, name: str) -> Proposer:
        """The proposer "sam", "saliency" or "random-crop"."""
        known: dict[str, Proposer] = {
            one.name: one for one in (self.sam, self.saliency, self.random_crop)
        }
        return known[name]


@dataclass(frozen=True)
class ScoreOptions:
    """How margins are measured.

    Attributes:
        masks: fixed masks that the error is averaged over.
        space: "target" (what the probe was trained on) or "pixel".
        batch_size: patches of a device program.
    """

    masks: int = 5
    space: Literal["target", "pixel"] = "target"
    batch_size: int = 64


@dataclass(frozen=True)
class Trials:
    """Pre-training runs of one objective: each method at each ratio with each seed.

    Attributes:
        train: the run; its data, out, seed, mean and std are set by the pipeline.
        methods: names of `pretrain_jax.synthesis.METHODS`; "all" is the full set, whatever the
            ratios, and NAME@RATIO, such as hard-images@0.25, has that ratio alone.
        ratios: pixels kept over the full set's, in (0, 1]; "recommended" is the fraction of the
            hardest that the theory recommends at the data's estimated coordinates, which needs
            `probe.halves`.
        seeds: one run for each; none leaves the objective out.
    """

    train: TrainConfig
    methods: tuple[str, ...] = ("all", "random", "meddel", "optidel-s", "optidel", "infomax")
    ratios: tuple[float | Literal["recommended"], ...] = (0.05, 0.1, 0.25, 0.5)
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """A pre-training run of a pipeline.

    Attributes:
        objective: "mae" or "simclr".
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
        """Method and percent, as folders of runs have it."""
        return f"{self.method}-{100 * self.ratio:g}"

    @property
    def selection(self) -> str:
        """Folder of its data set: that of the name, or one for each draw in it."""
        return self.name if self.draw is None else f"{self.name}/{draw_folder(self.draw)}"


def draw_folder(draw: int) -> str:
    """Folder of what is drawn with one seed."""
    return f"seed-{draw}"
