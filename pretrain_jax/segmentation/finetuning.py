"""Runs the stage `finetune`.

It trains on a segmentation set and scores its test cases.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage, Work
from hardset.listing import file_record
from pretrain_jax.data import Crop
from pretrain_jax.data.options import reading
from pretrain_jax.models.encoders import Architecture, encoder_to_json
from pretrain_jax.pictures import write_png
from pretrain_jax.places import RUN
from pretrain_jax.segmentation.burned_text import Sample, frames_with_text, text_note
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.dataset import (
    SegmentationSet,
    TrainingExamples,
    fold_of,
    read_case,
    split,
)
from pretrain_jax.segmentation.heads import ModelConfig, Segmenter, model_of
from pretrain_jax.segmentation.leakage import Frame, check_leakage, group_notes
from pretrain_jax.segmentation.metrics import CaseScore, iou, score_case
from pretrain_jax.segmentation.objective import SegmentationObjective, make_step
from pretrain_jax.segmentation.result import (
    Prediction,
    baselines,
    overlay_sheet,
    result_record,
    spread,
)
from pretrain_jax.segmentation.segmenter import (
    SCRATCH,
    WEIGHTS_NAME,
    Origin,
    TrainedEncoder,
    TrainedSegmenter,
    load_encoder,
    origin_of,
    save_segmenter,
)
from pretrain_jax.train.config import FREE_OPTIONS
from pretrain_jax.train.folder import CHECKPOINTS
from pretrain_jax.train.logging import BOARD, LOG_NAME, read_log
from pretrain_jax.train.loop import Loop
from pretrain_jax.train.objectives import computed_in
from pretrain_jax.train.setup import Plan, make_plan
from pretrain_jax.train.step import TrainState, make_mesh, replicated

RESULT_NAME, OVERLAYS_NAME, LOSSES_NAME = "result.json", "overlays.png", "losses.csv"
# How notes on the weights to start from begin.
OF_WEIGHTS = "weights to start from: "
FINETUNE = Stage(
    "finetune",
    inputs=("dataset", "init"),
    apart=(RUN,),
    local=(f"{RUN}/{LOG_NAME}", f"{RUN}/{BOARD}"),
    later={"precision": "float32", "blocks": 4, "accumulation": 1, "ema_decay": None},
    renamed={"pretrained": "init"},
)


def finetune(
    init: str | Path | None,
    dataset: SegmentationSet,
    out: str | Path,
    *,
    config: FinetuneConfig,
    model: str = "auto",
    seed: int = 0,
    pretraining: Iterable[Frame] | None = None,
    compared: int | None = None,
    fold: tuple[int, int] | None = None,
    progress: bool = False,
) -> Manifest:
    """Fine-tune on the training cases and score the test cases.

    The same call goes on, or returns where all is done.

    Every random choice is a function of `seed` and the step: after an interruption the run goes on
    from its newest checkpoint and ends, on CPU, with the result of an undisturbed one.

    Args:
        init: weights to start from, see `pretrain_jax.features.open_encoder`: the folder of a stage
            of pre-training, of a run, or of one of its checkpoints, or published weights; None
            with mode "scratch".
        dataset: split as `split` does.
        out: the stage's folder; gets result.json, overlays.png, losses.csv, model.safetensors (see
            `load_segmenter`) and manifest.json. Checkpoints are deleted at the end.
        config: what is done.
        model: kind of the weights' encoder; "auto" tells it from names and shapes.
        seed: of head (and encoder from scratch), order, crops, dropout and bootstrap.
        pretraining: the images for pre-training, compared with the test cases first, and a sample
            of them looked at for burned-in writing; None leaves that out, which a note says.
        compared: what `check_leakage` returned, where that was done before.
        fold: number of a fold and of all folds, see `fold_of`; None tests on the split's own side.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: bad options, data or folder; a loss that is not finite; test cases among the
            images for pre-training (`LeakageError`).
        OSError: the folder cannot be written.
    """
    config.check()
    check_integer("seed", seed, 0, 2**32 - 1)
    if (init is None) != (config.mode == "scratch"):
        given = "is missing" if init is None else f"= {init} is given"
        raise ValueError(
            f"mode = {config.mode!r}, and init {given}: 'scratch' takes no weights to start from, "
            "the others need them"
        )
    if fold is None:
        training, test = split(dataset, test_share=config.test_share, seed=config.split_seed)
    else:
        training, test = fold_of(dataset, *fold, seed=config.split_seed)
    trained: TrainedEncoder | None = None
    origin, inputs = SCRATCH, {"dataset": Input(dataset_digest(dataset))}
    encoder: Architecture = config.encoder
    if init is not None:
        folder = Path(init)
        trained = load_encoder(folder, config.image_size, model)
        origin, found = origin_of(folder, trained)
        inputs["init"] = Input(found, folder)
        encoder = trained.encoder.config
    elif config.image_size is not None:
        encoder = dataclasses.replace(encoder, image_size=config.image_size)
    # The processes of several hosts train one model on all of their devices.
    mesh = make_mesh(config.devices if jax.process_count() == 1 else None, config.fsdp)
    plan = make_plan(
        config, mesh, config.batch_size, config.steps, accumulation=config.accumulation
    )
    whole = model_of(config, computed_in(encoder, plan.dtype), len(dataset.classes))
    objective = SegmentationObjective(whole, config.trained_blocks)
    parameters = _parameters(config, dataset, whole)
    parameters |= reading().content()
    if fold is not None:
        parameters |= {"fold": fold[0], "folds": fold[1]}

    def fill(work: Work) -> Made:
        notes = [f"{OF_WEIGHTS}{one}" for one in trained.notes] if trained else []
        known = compared
        if pretraining is not None:
            known = compare_images(pretraining, test, notes)
        sides = training, test
        run = _Run(work.folder, config, objective, plan, sides, trained, seed, progress)
        return _finished(work.folder, run, origin, known, notes)

    return FINETUNE.open(out, parameters, seed, inputs).run(fill)


def compare_images(pretraining: Iterable[Frame], test: SegmentationSet, notes: list[str]) -> int:
    """Compare the images for pre-training with test cases, and look for writing in a sample.

    Args:
        pretraining: the images.
        test: the cases that must not be among them.
        notes: gets sentences on what was seen.

    Returns:
        The number of images.

    Raises:
        LeakageError: a test case is among them.
    """
    sample = Sample()
    known = check_leakage(sample(pretraining), test)
    # Frames are named without their folders, which are no part of the result.
    texts = [Path(name).name for name in frames_with_text(sample.frames)]
    notes.append(text_note(texts, len(sample.frames), sample.stride))
    notes += group_notes(sample.ungrouped, known, [test])
    return known


def _finished(
    folder: Path, run: "_Run", origin: Origin, compared: int | None, notes: list[str]
) -> Made:
    """Train and evaluate, and write the record."""
    config, training, test, seed = run.config, run.training, run.test, run.seed
    # First of all: this reads every case, so that a bad one does not stop a trained model.
    trivial = baselines(training, test, draws=config.bootstrap_draws, seed=seed, notes=notes)
    scores, losses = run.run()
    record = result_record(
        test,
        scores,
        trivial,
        origin,
        draws=config.bootstrap_draws,
        seed=seed,
        head=config.head,
        mode=config.mode,
        steps=config.steps,
        training_cases=len(training),
        leakage_checked=compared is not None,
    )
    text = json.dumps(record, indent=1, allow_nan=False)
    write_text_atomic(folder / RESULT_NAME, f"{text}\n")
    counts: dict[str, int | float] = {
        "steps": config.steps,
        "training_cases": len(training),
        "test_cases": len(test),
        "miou": record["miou"]["value"],
    }
    if config.steps in losses:
        counts["loss"] = losses[config.steps]
    if len(losses) < config.steps:
        lost = config.steps - len(losses)
        notes.append(
            f"{RUN}/{LOG_NAME} was lost or damaged: losses of {lost} step(s) are not known"
        )
    if compared is None:
        notes.append("the images for pre-training were not compared with the test cases")
    else:
        notes.append(f"{compared} image(s) for pre-training were compared with the test cases")
        counts["leaks"] = 0
    return Made(counts, notes, spent=(f"{RUN}/{CHECKPOINTS}",))


def _parameters(
    config: FinetuneConfig, dataset: SegmentationSet, model: ModelConfig
) -> dict[str, Any]:
    free = FREE_OPTIONS | {"encoder"}
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    encoder = encoder_to_json(model.encoder)
    return fields | {"encoder": encoder, "dataset": dataset.name, "classes": dataset.classes}


def dataset_digest(dataset: SegmentationSet) -> str:
    """Return the sha256 of names, groups, parts and files."""
    found = hashlib.sha256(json.dumps([dataset.classes, dataset.kind]).encode())
    for case in dataset.cases:
        files = [file_record(path) for path in (case.image, case.mask) if path is not None]
        found.update(json.dumps([case.name, case.group, case.part, files]).encode())
    return found.hexdigest()


class _Run:
    """Represents a fine-tuning in its folder."""

    def __init__(
        self,
        folder: Path,
        config: FinetuneConfig,
        objective: SegmentationObjective,
        plan: Plan,
        sides: tuple[SegmentationSet, SegmentationSet],
        weights: TrainedEncoder | None,
        seed: int,
        progress: bool,
    ) -> None:
        self._folder, self._run = folder, folder / RUN
        self.config, self._objective, self._plan = config, objective, plan
        self.training, self.test = sides
        self.seed, self._weights, self._progress = seed, weights, progress
        self._step = make_step(config, objective, plan, seed)

    def run(self) -> tuple[list[CaseScore], dict[int, float]]:
        """Train and score.

        It returns the scores of the test cases and the losses of the steps that the log tells.
        """
        loop = Loop(
            self._run,
            self.config,
            self._plan,
            self._step,
            self._examples(),
            begin=self._begin,
            progress=self._progress,
        )
        state = loop.run()
        log = self._run / LOG_NAME
        lines = read_log(log) if log.is_file() else []
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
        rows = [f"{step},{loss!r}\n" for step, loss in losses.items()]
        write_text_atomic(self._folder / LOSSES_NAME, "".join(["step,loss\n", *rows]))
        trained = state.params if state.ema is None else state.ema
        params, constants = self._at_hand((trained, state.constants))
        segmenter = TrainedSegmenter(self.test.classes, self._objective, params, constants)
        save_segmenter(self._folder / WEIGHTS_NAME, segmenter)
        shown, scores = [], []
        chosen = spread(len(self.test))
        for number, (prediction, score) in enumerate(self._evaluate(segmenter)):
            scores.append(score)
            if number in chosen:
                shown.append(prediction)
        sheet = overlay_sheet(shown, self.test.classes, of=len(scores))
        write_png(self._folder / OVERLAYS_NAME, sheet)
        return scores, losses

    def _examples(self) -> TrainingExamples:
        config, encoder = self.config, self._objective.model.encoder
        return TrainingExamples(
            self.training,
            Crop(encoder.size[0], scale=config.crop_scale, flip=config.flip),
            batch_size=config.batch_size,
            channels=encoder.channels,
            seed=self.seed,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    def _begin(self, state: TrainState) -> TrainState:
        """Return the drawn state before the first step.

        It has the statistics of the images and the encoder's weights.
        """
        weights = self._weights
        if weights is None:
            mean, std = _measured(self.training, self._objective.model.encoder.channels)
        else:
            mean, std = np.array(weights.mean), np.array(weights.std)

        def change(model: Segmenter) -> None:
            model.mean[...], model.std[...] = mean, std
            if weights is not None:
                nnx.update(model.model.encoder, nnx.state(weights.encoder))

        return self._step.changed(state, change)

    def _at_hand(self, tree: Any) -> Any:
        """Return arrays of several devices as copies on one."""
        mesh = self._plan.mesh
        if mesh.size == 1:
            return tree
        gathered = jax.jit(lambda arrays: arrays, out_shardings=replicated(mesh))(tree)
        return jax.tree.map(lambda array: jnp.asarray(np.asarray(array)), gathered)

    def _evaluate(self, segmenter: TrainedSegmenter) -> Iterator[tuple[Prediction, CaseScore]]:
        """Return predictions of the whole test images at the masks' own sizes."""
        rows, classes = self.config.batch_size, len(self.test.classes)
        channels = segmenter.encoder.channels
        for first in range(0, len(self.test), rows):
            cases = self.test.cases[first : first + rows]
            pairs = [read_case(self.test, case, channels=channels) for case in cases]
            masks = segmenter.predict([pixels for pixels, _ in pairs], batch_size=rows)
            for case, (pixels, truth), predicted in zip(cases, pairs, masks, strict=True):
                score = score_case(predicted, truth, classes)
                mean = float(np.nanmean(iou(score.confusion)))
                yield Prediction(case.name, pixels, truth, predicted, mean), score


def _measured(
    training: SegmentationSet, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure mean and standard deviation of the channels.

    They are those of the training cases' pixels.
    """
    total = np.zeros((2, channels))
    count = 0
    for case in training.cases:
        pixels, _ = read_case(training, case, channels=channels)
        values = pixels.reshape(-1, channels) / 255.0
        total += values.sum(axis=0), (values**2).sum(axis=0)
        count += len(values)
    mean, square = total / count
    return mean, np.sqrt(np.maximum(square - mean**2, 1e-6))
