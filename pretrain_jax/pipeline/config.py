"""Configures a pipeline.

The configuration is typed and frozen, and the same as on the command line.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.places import RECOMMENDED, TOY_MODEL, Cell
from pretrain_jax.segmentation.config import FINETUNE_PRESETS, FinetuneConfig, HeadKind, Mode
from pretrain_jax.segmentation.layouts import PAIR, PUBLISHED
from pretrain_jax.synthesis.methods import CROPPED, METHODS, Storage, check_group
from pretrain_jax.synthesis.proposers import Proposer, RandomCrop, Saliency
from pretrain_jax.synthesis.sam import Sam
from pretrain_jax.train.config import (
    PRESETS,
    DataOptions,
    OptimizerOptions,
    TrainConfig,
    config_to_json,
)

# So many masks of an image are assumed to pass SAM's filters; data sets differ.
SAM_PATCHES = 30
# Ratios that become numbers once images are scored: that of the tested advice, and the theory's.
RatioName = Literal["recommended", "toy-model"]
RATIO_NAMES = get_args(RatioName)
# Where any number will do, as which runs there are is all that counts.
ANY_RATIOS: Mapping[str, float] = MappingProxyType(dict.fromkeys(RATIO_NAMES, 1.0))
# Every run has equal optimiser steps (matched), or equal epochs (paper).
Protocol = Literal["matched", "paper"]


@dataclass(frozen=True)
class ProbeOptions:
    """Configures the masked autoencoder whose reconstruction errors are the margins.

    Attributes:
        weights: a run's folder, or a file (.pth, .safetensors) in the layout of the MAE code
            or of transformers; None trains `mae.train` on the full set, which counts as a cost.
        halves: whether two more are trained on disjoint halves of the images, from which the
            angle theta between probe and target is estimated.
    """

    weights: str | None = None
    halves: bool = False


@dataclass(frozen=True)
class ProposeOptions:
    """Configures where the patches come from.

    Those of OptiDEL come from `proposer`, those of OptiDEL-S from crops.

    Attributes:
        proposer: "sam" or "saliency"; "auto" is sam where `sam.weights` are given.
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
        """Return the proposer's name, with "auto" resolved."""
        if self.proposer != "auto":
            return self.proposer
        return "saliency" if self.sam.weights is None else "sam"

    def check(self) -> None:
        """Check the proposer and that its weights are there.

        Raises:
            ValueError: an unknown proposer, sam without weights or with such as are no file,
                weights for another proposer.
        """
        check_choice("propose.proposer", self.proposer, ("auto", "sam", "saliency"))
        if self.chosen == "sam":
            self.sam.inputs()  # raises without weights
        elif self.sam.weights is not None:
            raise ValueError(
                f"propose.sam.weights = {self.sam.weights} is of no use to propose.proposer "
                f"= {self.proposer}: leave one of them out"
            )

    def named(self, name: str) -> Proposer:
        """Make the proposer called "sam", "saliency" or "random-crop"."""
        known: dict[str, Proposer] = {
            one.name: one for one in (self.sam, self.saliency, self.random_crop)
        }
        return known[name]


@dataclass(frozen=True)
class ScoreOptions:
    """Configures how margins are measured.

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
    """Configures the pre-training runs of one objective.

    Each method runs at each ratio with each seed.

    Attributes:
        train: the run; its data, out, seed, mean and std are set by the pipeline.
        methods: names of `pretrain_jax.synthesis.METHODS`; "all" is the full set, whatever the
            ratios, and NAME@RATIO, such as hard-images@0.25, has that ratio alone.
        ratios: pixels kept over the full set's, in (0, 1]. "recommended" is the smallest fraction
            that a test on the images' labels certifies, and needs labels. "toy-model" is the
            fraction of the hardest that the theory finds best at the data's estimated coordinates,
            is tested on nothing, and needs `probe.halves`.
        seeds: one run for each; none leaves the objective out.
    """

    train: TrainConfig
    methods: tuple[str, ...] = ("all", "random", "meddel", "optidel-s", "optidel", "infomax")
    ratios: tuple[float | RatioName, ...] = (0.05, 0.1, 0.25, 0.5)
    seeds: tuple[int, ...] = (0, 1, 2)


# This value of `PipelineConfig.data` stands for the images and masks that other packages ship.
SHIPPED_SEGMENTATION = "shipped-segmentation"
OBJECTIVES = ("mae", "simclr")
EVALUATIONS: Mapping[str, tuple[HeadKind, Mode]] = MappingProxyType(
    {f"{head}-{mode}": (head, mode) for head in get_args(HeadKind) for mode in get_args(Mode)}
)
ALL = "all"
LARGEST = 1 << 40


@dataclass(frozen=True)
class PipelineConfig:
    """Configures a pipeline from images to a report.

    Attributes:
        mae: runs of the masked autoencoder; their `train` is the probe's, too.
        simclr: runs of contrastive learning.
        data: folder, image list, video or LAYOUT:FOLDER of the full pre-training set, LAYOUT one of
            `pretrain_jax.data.listing.COLLECTIONS`; "shipped-segmentation" for images and masks
            that other packages ship (then `downstream` is theirs).
        downstream: segmentation data sets, each a folder, or LAYOUT:FOLDER for "folder" or one of
            `pretrain_jax.segmentation.PUBLISHED`; without any the pipeline ends with pre-training.
        out: the pipeline's folder; a pipeline that lies there goes on where it stopped.
        probe: the model that measures margins.
        propose: where patches come from.
        score: how margins are measured.
        patches: patches of a synthesised image, a perfect square.
        storage: what ratios are shares of: "pixels" of the full set, or "bytes": its pixels and the
            bytes of its files, neither of which a set exceeds.
        protocol: "matched" gives every run the optimiser steps of the full set, "paper" gives
            every run the epochs of `train`.
        finetune: one fine-tuning; head and mode are set by `evaluations`.
        evaluations: HEAD-MODE of every fine-tuning: heads dpt, linear, mlp; modes frozen, full;
            and scratch, which is supervised training without pre-training, once a seed.
        draws: of methods that draw at random (random, random-patches, optidel-s): "seed" gives
            every seed of `mae` and `simclr` a data set of its own, drawn with that seed, so that
            deviations over seeds include that of the draw; "once" gives all seeds the same.
        seed: of probe, masks, and of what is drawn once.
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
    storage: Storage = "pixels"
    protocol: Protocol = "matched"
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    evaluations: tuple[str, ...] = ("dpt-full",)
    draws: Literal["seed", "once"] = "seed"
    seed: int = 0
    shards: int | None = None

    def check(self) -> None:
        """Check everything that can be checked without data.

        Raises:
            ValueError: names the field, its value and the valid range.
        """
        if not self.data:
            raise ValueError("data is missing: a folder, an image list, a video or LAYOUT:FOLDER")
        if not self.out:
            raise ValueError("out = '' is not a folder")
        for name in OBJECTIVES:
            _check_trials(name, self.trials(name), self.protocol)
        if isinstance(self.mae.train.model, SimCLRConfig):
            raise ValueError("mae.train.model is a SimCLRConfig; it must be a MAEConfig")
        if self.simclr.seeds and not isinstance(self.simclr.train.model, SimCLRConfig):
            raise ValueError("simclr.train.model is a MAEConfig; it must be a SimCLRConfig")
        with _within("finetune."):
            self.finetune.check()
        check_choice("draws", self.draws, ("seed", "once"))
        if self.has_ratio(TOY_MODEL) and not self.probe.halves:
            raise ValueError(
                f"ratios: {TOY_MODEL!r} is estimated from two more probes, trained on halves of "
                "the images: set probe.halves, or give numbers"
            )
        check_choice("protocol", self.protocol, get_args(Protocol))
        check_choice("storage", self.storage, get_args(Storage))
        check_group(self.patches)
        check_integer("score.masks", self.score.masks, 1, 1000)
        check_integer("score.batch_size", self.score.batch_size, 1, LARGEST)
        check_integer("seed", self.seed, 0, 2**32 - 1)
        if self.shards is not None:
            check_integer("shards", self.shards, 1, 100_000)
        self.propose.check()
        if len(set(self.levels())) < len(self.downstream):
            raise ValueError(f"downstream = {self.downstream}: two folders have the same name")
        for one in self.evaluations:
            check_choice("evaluations", one, EVALUATIONS)
        self._check_heads()

    def _check_heads(self) -> None:
        """Check that every head fits the encoder that it is trained on."""
        if not (self.downstream or self.data_is_shipped):
            return
        from pretrain_jax.segmentation.heads import model_of

        for objective in (name for name in OBJECTIVES if self.trials(name).seeds):
            scratch: list[tuple[HeadKind, Mode]]
            scratch = [(head, "scratch") for head in self.scratch_heads() if objective == "mae"]
            for head, mode in [*self.pairs(), *scratch]:
                options = dataclasses.replace(self.finetune, head=head, mode=mode)
                with _within(f"{objective}.train.model: "):
                    model_of(options, self.trials(objective).train.model.encoder, 2)

    def trials(self, objective: str) -> Trials:
        """Return the runs of an objective."""
        return self.mae if objective == "mae" else self.simclr

    def cells(self, known: Mapping[str, float] = MappingProxyType({})) -> list[Cell]:
        """List all pre-training runs.

        The full set comes first. Then they go by ratio, method and seed.

        Args:
            known: ratios by their names; the runs of a name that is not among them are left out.
        """
        return [
            Cell(objective, method, ratio, seed, self.draw(method, seed))
            for objective in OBJECTIVES
            for method, ratio in _sets(self.trials(objective), known)
            for seed in self.trials(objective).seeds
        ]

    def draw(self, method: str, seed: int) -> int | None:
        """Return the seed of a run's data set.

        It is None where all runs have the same set.
        """
        return seed if METHODS[method].draws and self.draws == "seed" else None

    def has_ratio(self, name: str) -> bool:
        """Say whether there are runs at the ratio of a name."""
        used = (self.trials(objective) for objective in OBJECTIVES)
        return any(name in one.ratios for one in used if one.seeds)

    @property
    def data_is_shipped(self) -> bool:
        """Say whether data and downstream set are shipped by other packages."""
        return self.data == SHIPPED_SEGMENTATION

    def proposer_of(self, method: str) -> str:
        """Choose a method's proposer.

        It is the configured one, unless the method has its own.
        """
        own = METHODS[method].proposers
        return self.propose.chosen if self.propose.chosen in own else own[0]

    def proposals_of(self, cell: Cell) -> tuple[str, int | None]:
        """Return proposer and seed of the patches that a run chooses from."""
        name = self.proposer_of(cell.method)
        return name, cell.draw if name in CROPPED else None

    def proposals(self) -> list[tuple[str, int | None]]:
        """List every proposer and seed that patches are drawn with.

        They are those of the runs that choose from patches.
        """
        cells = [one for one in self.cells(ANY_RATIOS) if METHODS[one.method].source == "patches"]
        return list(dict.fromkeys(self.proposals_of(one) for one in cells))

    def scores_images(self) -> bool:
        """Say whether whole images are scored."""
        kinds = {METHODS[one.method].source for one in self.cells(ANY_RATIOS)}
        return self.probe.halves or self.has_ratio(RECOMMENDED) or "images" in kinds

    def pairs(self) -> list[tuple[HeadKind, Mode]]:
        """List head and mode of every fine-tuning of a pre-trained model."""
        return [EVALUATIONS[one] for one in self.evaluations if EVALUATIONS[one][1] != "scratch"]

    def scratch_heads(self) -> list[HeadKind]:
        """List the heads that are trained without pre-training."""
        found = [EVALUATIONS[one] for one in self.evaluations]
        return [head for head, mode in found if mode == "scratch"]

    def levels(self) -> list[str]:
        """Name each segmentation data set in the folders of results.

        A single one has no name.
        """
        names = [Path(folder).name for _, folder in self.layouts()]
        return names if len(names) > 1 else ["" for _ in names]

    def layouts(self) -> list[tuple[str, str]]:
        """List layout and folder of every segmentation data set."""
        found = []
        for one in self.downstream:
            layout, colon, folder = one.partition(":")
            known = bool(colon) and layout in (PAIR, *PUBLISHED)
            found.append((layout, folder) if known else (PAIR, one))
        return found


def pipeline_to_json(
    config: PipelineConfig, known: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """Convert the configuration to JSON-able values.

    The runs that follow from it are among them.
    """
    values = dataclasses.asdict(config)
    for name in OBJECTIVES:
        values[name]["train"] = config_to_json(config.trials(name).train)
    return values | {
        "demo": config.data_is_shipped,
        "cells": [dataclasses.asdict(cell) for cell in config.cells(known)],
        "levels": [level for level in config.levels() if level],
        "heads": [list(pair) for pair in config.pairs()],
        "scratch_seeds": list(config.mae.seeds) if config.scratch_heads() else [],
    }


@contextmanager
def _within(prefix: str) -> Iterator[None]:
    """Put the place of a nested configuration before its messages."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prefix}{error}") from None


def _sets(trials: Trials, known: Mapping[str, float]) -> list[tuple[str, float]]:
    """List methods and ratios.

    The full set comes first, then ratio by ratio.
    """
    ratios = (known.get(one) if isinstance(one, str) else one for one in trials.ratios)
    common = [float(one) for one in ratios if one is not None]
    methods = [_parted(one) for one in trials.methods]
    whole = [(ALL, 1.0)] if (ALL, None) in methods else []
    alone = [own for _, own in methods if own is not None]
    found = [
        (name, ratio)
        for ratio in dict.fromkeys([*common, *alone])
        for name, own in methods
        if name != ALL and (ratio in common if own is None else ratio == own)
    ]
    return list(dict.fromkeys([*whole, *found]))


def _parted(method: str) -> tuple[str, float | None]:
    """Read a method's name and the ratio that it alone has."""
    name, at, ratio = method.partition("@")
    try:
        return name, float(ratio) if at else None
    except ValueError:
        raise ValueError(f"{method!r} is neither a method nor METHOD@NUMBER") from None


def _check_trials(name: str, trials: Trials, protocol: str) -> None:
    for method in trials.methods:
        with _within(f"{name}.methods: "):
            plain, own = _parted(method)
        check_choice(f"{name}.methods", plain, METHODS)
        if own is not None:
            if plain == ALL:
                raise ValueError(f"{name}.methods: {method!r}: 'all' takes no ratio")
            check_range(f"ratio of {method} in {name}.methods", own, 0.0, 1.0, open_low=True)
    for ratio in trials.ratios:
        if isinstance(ratio, str):
            check_choice(f"{name}.ratios", ratio, RATIO_NAMES)
            continue
        check_range(f"{name}.ratios", ratio, 0.0, 1.0, open_low=True)
    for seed in trials.seeds:
        check_integer(f"{name}.seeds", seed, 0, 2**32 - 1)
    for field_name in ("methods", "ratios", "seeds"):
        values = getattr(trials, field_name)
        if len(set(values)) < len(values):
            raise ValueError(f"{name}.{field_name} = {values} has an entry twice")
    data = dataclasses.replace(trials.train.data, path="the pipeline's")
    with _within(f"{name}.train."):
        dataclasses.replace(trials.train, data=data).check()
    if protocol == "paper" and trials.train.epochs is None and trials.seeds:
        raise ValueError(
            f"protocol = paper gives every run the same epochs, and {name}.train has steps = "
            f"{trials.train.steps}; give {name}.train.epochs (with steps None)"
        )


# OptiDEL's experiment: MAE-ViT-Base/16, batch 16, 100 epochs; 5, 10, 25 and 50 % storage; DPT with
# 20,000 iterations. Its SimCLR runs are told without settings: those of the preset simclr_vit_base.
_REFERENCE = PipelineConfig(
    mae=Trials(PRESETS["mae_vit_base_reference"]),
    simclr=Trials(PRESETS["simclr_vit_base"], seeds=()),
    out="runs/optidel",
    finetune=FINETUNE_PRESETS["reference"],
)

# Minutes on two cores: everything is there, but small.
_DATA = DataOptions(validation_images=64, workers=0)
_ENCODER = ViTConfig(image_size=64, patch_size=8, width=96, depth=4, heads=3)
_DEMO_MAE = TrainConfig(
    model=MAEConfig(_ENCODER, decoder_width=48, decoder_depth=2, decoder_heads=3),
    data=_DATA,
    optimizer=OptimizerOptions(learning_rate=1.5e-3, warmup_share=0.1),
    batch_size=16,
    steps=200,
    log_every=50,
    checkpoint_every=200,
    keep_checkpoints=1,
    validate_every=0,
)
_DEMO_SIMCLR = dataclasses.replace(
    _DEMO_MAE,
    model=SimCLRConfig(dataclasses.replace(_ENCODER, pool="mean"), 128, 32),
    data=dataclasses.replace(_DATA, crop="centre"),
    steps=50,
    log_every=25,
    checkpoint_every=50,
)
_DEMO = PipelineConfig(
    mae=Trials(
        _DEMO_MAE,
        methods=(
            *("all", "random", "meddel", "optidel-s", "optidel", "infomax"),
            # With random and optidel the ablation of selection and synthesis.
            *("hard-images@0.25", "random-patches@0.25"),
        ),
        ratios=(0.1, 0.25),
    ),
    simclr=Trials(_DEMO_SIMCLR, methods=("optidel",), ratios=(0.25,), seeds=(0,)),
    data=SHIPPED_SEGMENTATION,
    out="out/optidel-demo",
    probe=ProbeOptions(halves=True),
    propose=ProposeOptions(saliency=Saliency(), random_crop=RandomCrop()),
    score=ScoreOptions(masks=5),
    finetune=dataclasses.replace(FINETUNE_PRESETS["demo"], steps=60),
    evaluations=("linear-frozen", "dpt-frozen", "dpt-scratch"),
)

# Presets; set `data`, and what else differs, with `dataclasses.replace`.
PIPELINES: Mapping[str, PipelineConfig] = MappingProxyType(
    {"optidel_reference": _REFERENCE, "optidel-demo": _DEMO}
)
