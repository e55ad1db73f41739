"""The configuration of a pipeline: typed, frozen, and the same as the command line."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.segmentation import PUBLISHED, FinetuneConfig
from pretrain_jax.segmentation.config import HeadKind, Mode
from pretrain_jax.synthesis import METHODS, Proposer, RandomCrop, Saliency, Sam
from pretrain_jax.train.config import TrainConfig, config_to_json
from theory.checks import check_integer, check_range

__all__ = [
    "SHIPPED_SEGMENTATION",
    "Cell",
    "PipelineConfig",
    "ProbeOptions",
    "ProposeOptions",
    "ScoreOptions",
    "Trials",
    "pipeline_to_json",
]

# `PipelineConfig.data` of the images and masks that other packages ship.
SHIPPED_SEGMENTATION = "shipped-segmentation"
OBJECTIVES = ("mae", "simclr")
EVALUATIONS: Mapping[str, tuple[HeadKind, Mode]] = MappingProxyType(
    {f"{head}-{mode}": (head, mode) for head in get_args(HeadKind) for mode in get_args(Mode)}
)
ALL = "all"
LARGEST = 1 << 40


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
        proposer: "sam" (with `sam.checkpoint`) or "saliency".
        sam: settings of the proposer sam.
        saliency: settings of the proposer saliency.
        random_crop: settings of the random crops.
    """

    proposer: Literal["sam", "saliency"] = "saliency"
    sam: Sam = field(default_factory=Sam)
    saliency: Saliency = field(default_factory=Saliency)
    random_crop: RandomCrop = field(default_factory=RandomCrop)

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
            ratios.
        ratios: pixels kept over the full set's, in (0, 1].
        seeds: one run for each; none leaves the objective out.
    """

    train: TrainConfig
    methods: tuple[str, ...] = ("all", "random", "meddel", "optidel-s", "optidel", "infomax")
    ratios: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """A pre-training run of a pipeline.

    Attributes:
        objective: "mae" or "simclr".
        method: how its images were chosen.
        ratio: 1 for the method "all".
        seed: of the run.
    """

    objective: str
    method: str
    ratio: float
    seed: int

    @property
    def selection(self) -> str:
        """Name of its data set, as folders have it."""
        return f"{self.method}-{100 * self.ratio:g}"


@dataclass(frozen=True)
class PipelineConfig:
    """From images to a report.

    Attributes:
        mae: runs of the masked autoencoder; their `train` is the probe's, too.
        simclr: runs of contrastive learning.
        data: folder, image list or video of the full pre-training set; "shipped-segmentation" for
            images and masks that other packages ship (then `downstream` is theirs).
        downstream: segmentation data sets, each a folder, or LAYOUT:FOLDER for one of
            `pretrain_jax.segmentation.PUBLISHED`; without any the pipeline ends with pre-training.
        out: the pipeline's folder; a pipeline that lies there goes on where it stopped.
        probe: the model that measures margins.
        propose: where patches come from.
        score: how margins are measured.
        patches: patches of a synthesised image, a perfect square.
        protocol: "matched" gives every run the optimiser steps of the full set, "paper" gives
            every run the epochs of `train`.
        finetune: one fine-tuning; head and mode are set by `evaluations`.
        evaluations: HEAD-MODE of every fine-tuning: heads dpt, linear, mlp; modes frozen, full;
            and scratch, which is supervised training without pre-training, once a seed.
        seed: of probe, masks and selections.
        shards: parts that index, proposals and scores are divided into; None chooses.
    """

    mae: Trials
    simclr: Trials
    data: str = ""
    downstream: tuple[str, ...] = ()
    out: str = "runs/optidel"
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    propose: ProposeOptions = field(default_factory=ProposeOptions)
    score: ScoreOptions = field(default_factory=ScoreOptions)
    patches: int = 4
    protocol: Literal["matched", "paper"] = "matched"
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    evaluations: tuple[str, ...] = ("dpt-full",)
    seed: int = 0
    shards: int | None = None

    def check(self) -> None:
        """Check everything that can be checked without data.

        Raises:
            ValueError: names the field, its value and the valid range.
        """
        if not self.data:
            raise ValueError("data is missing: a folder, an image list or a video")
        if not self.out:
            raise ValueError("out = '' is not a folder")
        for name in OBJECTIVES:
            _check_trials(name, self.trials(name), self.protocol)
        if isinstance(self.mae.train.model, SimCLRConfig):
            raise ValueError("mae.train.model is a SimCLRConfig; it must be a MAEConfig")
        if self.simclr.seeds and not isinstance(self.simclr.train.model, SimCLRConfig):
            raise ValueError("simclr.train.model is a MAEConfig; it must be a SimCLRConfig")
        check_integer("score.masks", self.score.masks, 1, 1000)
        check_integer("score.batch_size", self.score.batch_size, 1, LARGEST)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        if self.shards is not None:
            check_integer("shards", self.shards, 1, 100_000)
        if self.propose.proposer == "sam":
            self.propose.sam.inputs()  # raises without a checkpoint
        if len(set(self.levels())) < len(self.downstream):
            raise ValueError(f"downstream = {self.downstream}: two folders have the same name")
        for one in self.evaluations:
            if one not in EVALUATIONS:
                raise ValueError(f"evaluations: {one!r} is not one of {', '.join(EVALUATIONS)}")

    def trials(self, objective: str) -> Trials:
        """The runs of an objective."""
        return self.mae if objective == "mae" else self.simclr

    def cells(self) -> list[Cell]:
        """All pre-training runs: the full set first, then by ratio, method and seed."""
        return [
            Cell(objective, method, ratio, seed)
            for objective in OBJECTIVES
            for method, ratio in _sets(self.trials(objective))
            for seed in self.trials(objective).seeds
        ]

    @property
    def data_is_shipped(self) -> bool:
        """Whether data and downstream set are those that other packages ship."""
        return self.data == SHIPPED_SEGMENTATION

    def proposer_of(self, method: str) -> str:
        """Of a method that chooses patches: the configured proposer, unless it has its own."""
        own = METHODS[method].proposers
        return self.propose.proposer if self.propose.proposer in own else own[0]

    def pairs(self) -> list[tuple[HeadKind, Mode]]:
        """Head and mode of every fine-tuning of a pre-trained model."""
        return [EVALUATIONS[one] for one in self.evaluations if EVALUATIONS[one][1] != "scratch"]

    def scratch_heads(self) -> list[HeadKind]:
        """Heads that are trained without pre-training."""
        found = [EVALUATIONS[one] for one in self.evaluations]
        return [head for head, mode in found if mode == "scratch"]

    def levels(self) -> list[str]:
        """Name of each segmentation data set in the folders of results: none for a single one."""
        names = [Path(folder).name for _, folder in self.layouts()]
        return names if len(names) > 1 else ["" for _ in names]

    def layouts(self) -> list[tuple[str, str]]:
        """Layout and folder of every segmentation data set."""
        found = []
        for one in self.downstream:
            layout, colon, folder = one.partition(":")
            known = bool(colon) and layout in PUBLISHED
            found.append((layout, folder) if known else ("folder", one))
        return found


def pipeline_to_json(config: PipelineConfig) -> dict[str, Any]:
    """The configuration as JSON-able values, with the runs that follow from it."""
    values = dataclasses.asdict(config)
    for name in OBJECTIVES:
        values[name]["train"] = config_to_json(config.trials(name).train)
    return values | {
        "demo": config.data_is_shipped,
        "cells": [dataclasses.asdict(cell) for cell in config.cells()],
        "levels": [level for level in config.levels() if level],
        "heads": [list(pair) for pair in config.pairs()],
        "scratch_seeds": list(config.mae.seeds) if config.scratch_heads() else [],
    }


def _sets(trials: Trials) -> list[tuple[str, float]]:
    whole = [(ALL, 1.0)] if ALL in trials.methods else []
    return whole + [(m, ratio) for ratio in trials.ratios for m in trials.methods if m != ALL]


def _check_trials(name: str, trials: Trials, protocol: str) -> None:
    for method in trials.methods:
        if method not in METHODS:
            raise ValueError(f"{name}.methods: {method!r} is not one of {', '.join(METHODS)}")
    for ratio in trials.ratios:
        check_range(f"{name}.ratios", ratio, 0.0, 1.0, open_low=True)
    for seed in trials.seeds:
        check_integer(f"{name}.seeds", seed, 0, 2**32 - 1)
    for field_name in ("methods", "ratios", "seeds"):
        values = getattr(trials, field_name)
        if len(set(values)) < len(values):
            raise ValueError(f"{name}.{field_name} = {values} has an entry twice")
    data = dataclasses.replace(trials.train.data, path="the pipeline's")
    dataclasses.replace(trials.train, data=data).check()
    if protocol == "paper" and trials.train.epochs is None and trials.seeds:
        raise ValueError(
            f"protocol = paper gives every run the same epochs, and {name}.train has steps = "
            f"{trials.train.steps}; give {name}.train.epochs (with steps None)"
        )
