"""The stage `finetune`: an encoder, a head and a segmentation set -> scores on its test cases."""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hardset.checks import check_integer
from hardset.datafile import write_text_atomic
from hardset.folder import Input, Made, Manifest, Stage, Work
from hardset.listing import file_record
from pretrain_jax.data import Crop
from pretrain_jax.pictures import write_png
from pretrain_jax.segmentation.burned_text import Sample, frames_with_text, text_note
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.segmentation.dataset import SegmentationSet, TrainingExamples, read_case, split
from pretrain_jax.segmentation.leakage import Frame, check_leakage, group_notes
from pretrain_jax.segmentation.metrics import CaseScore, iou, score_case
from pretrain_jax.segmentation.program import Program, Recipe, Statistics, compiled, recipe_of
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
from pretrain_jax.train.checkpoint import Checkpoints
from pretrain_jax.train.logging import say
from pretrain_jax.train.loop import TERMINATED, NonFiniteLossError, Termination
from pretrain_jax.train.step import TrainState

RESULT_NAME, OVERLAYS_NAME, LOSSES_NAME = "result.json", "overlays.png", "losses.csv"
CHECKPOINTS = "checkpoints"
FETCHED_STEPS = 50
FINETUNE = Stage("finetune", inputs=("dataset", "pretrained"))


def finetune(
    pretrained_run: str | Path | None,
    dataset: SegmentationSet,
    out: str | Path,
    *,
    config: FinetuneConfig,
    seed: int = 0,
    pretraining: Iterable[Frame] | None = None,
    compared: int | None = None,
    progress: bool = False,
) -> Manifest:
    """Fine-tune on the training cases and score the test cases; the same call goes on or returns.

    Every random choice is a function of `seed` and the step: after an interruption the run goes on
    from its newest checkpoint and ends, on CPU, with the result of an undisturbed one.

    Args:
        pretrained_run: folder of a stage of pre-training or of a run; None with mode "scratch".
        dataset: split as `split` does.
        out: the stage's folder; gets result.json, overlays.png, losses.csv, model.safetensors (see
            `load_segmenter`) and manifest.json. Checkpoints are deleted at the end.
        config: what is done.
        seed: of head (and encoder from scratch), order, crops, dropout and bootstrap.
        pretraining: the images for pre-training, compared with the test cases first, and a sample
            of them looked at for burned-in writing; None leaves that out, which a note says.
        compared: what `check_leakage` returned, where that was done before.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: bad options, data or folder; a loss that is not finite; test cases among the
            images for pre-training (`LeakageError`).
        OSError: the folder cannot be written.
    """
    config.check()
    check_integer("seed", seed, 0, 2**32 - 1)
    if (pretrained_run is None) != (config.mode == "scratch"):
        given = "is given" if pretrained_run is not None else "is missing"
        raise ValueError(
            f"mode = {config.mode!r}, and a pre-trained run {given}: 'scratch' takes "
            "none, the others need one"
        )
    training, test = split(dataset, test_share=config.test_share, seed=config.split_seed)
    trained: TrainedEncoder | None = None
    origin, inputs = SCRATCH, {"dataset": Input(dataset_digest(dataset))}
    encoder = config.encoder
    if pretrained_run is not None:
        folder = Path(pretrained_run)
        trained = load_encoder(folder, config.image_size)
        origin, found = origin_of(folder, trained)
        inputs["pretrained"] = Input(found, folder)
        encoder = trained.encoder.config
    elif config.image_size is not None:
        encoder = dataclasses.replace(encoder, image_size=config.image_size)
    recipe = recipe_of(config, encoder, len(dataset.classes))
    parameters = _parameters(config, dataset, recipe)

    def fill(work: Work) -> Made:
        notes: list[str] = []
        known = compared
        if pretraining is not None:
            sample = Sample()
            known = check_leakage(sample(pretraining), test)
            # Without their folders, which are no part of the result.
            texts = [Path(name).name for name in frames_with_text(sample.frames)]
            notes.append(text_note(texts, len(sample.frames), sample.stride))
            notes += group_notes(sample.ungrouped, known, [test])
        run = _Run(work.folder, config, recipe, training, test, trained, seed, progress)
        return _finished(work.folder, run, origin, known, notes)

    return FINETUNE.open(out, parameters, seed, inputs).run(fill)


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
        "loss": losses[-1],
    }
    if compared is None:
        notes.append("the images for pre-training were not compared with the test cases")
    else:
        notes.append(f"{compared} image(s) for pre-training were compared with the test cases")
        counts["leaks"] = 0
    return Made(counts, notes, spent=(CHECKPOINTS,))


def _parameters(config: FinetuneConfig, dataset: SegmentationSet, recipe: Recipe) -> dict[str, Any]:
    free = ("encoder", "checkpoint_every")
    fields = {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
    encoder = dataclasses.asdict(recipe.model.encoder)
    return fields | {"encoder": encoder, "dataset": dataset.name, "classes": dataset.classes}


def dataset_digest(dataset: SegmentationSet) -> str:
    """sha256 of names, groups, parts and files."""
    found = hashlib.sha256(json.dumps([dataset.classes, dataset.kind]).encode())
    for case in dataset.cases:
        files = [file_record(path) for path in (case.image, case.mask) if path is not None]
        found.update(json.dumps([case.name, case.group, case.part, files]).encode())
    return found.hexdigest()


class _Run:
    """A fine-tuning in its folder."""

    def __init__(
        self,
        folder: Path,
        config: FinetuneConfig,
        recipe: Recipe,
        training: SegmentationSet,
        test: SegmentationSet,
        trained: TrainedEncoder | None,
        seed: int,
        progress: bool,
    ) -> None:
        self._folder, self.config, self._recipe = folder, config, recipe
        self.training, self.test, self.seed = training, test, seed
        self._size, self._channels = recipe.model.encoder.size[0], recipe.model.encoder.channels
        self._trained = trained
        self._program: Program = compiled(recipe)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, keep=2)
        self._progress = progress

    def run(self) -> tuple[list[CaseScore], list[float]]:
        """The scores of the test cases and the losses of all steps."""
        statistics = self._statistics()
        state, losses = self._start()
        state = self._train(state, losses, statistics)
        lines = [f"{step},{loss!r}\n" for step, loss in enumerate(losses, 1)]
        write_text_atomic(self._folder / LOSSES_NAME, "".join(["step,loss\n", *lines]))
        segmenter = TrainedSegmenter(
            self.test.classes,
            self._size,
            self._channels,
            statistics,
            self._program,
            state.params,
            state.constants,
        )
        save_segmenter(self._folder / WEIGHTS_NAME, segmenter)
        shown, scores = [], []
        chosen = spread(len(self.test))
        for number, (prediction, score) in enumerate(self._evaluate(segmenter)):
            scores.append(score)
            if number in chosen:
                shown.append(prediction)
        write_png(self._folder / OVERLAYS_NAME, overlay_sheet(shown, of=len(scores)))
        return scores, losses

    def _statistics(self) -> Statistics:
        if self._trained is not None:
            mean, std = np.array(self._trained.mean), np.array(self._trained.std)
        else:
            mean, std = _measured(self.training, self._channels)
        return Statistics(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32))

    def _start(self) -> tuple[TrainState, list[float]]:
        seed = jnp.uint32(self.seed)
        where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda leaf: leaf.update(sharding=where), jax.eval_shape(self._program.initial, seed)
        )
        found = self._checkpoints.restore(like)
        if found is not None:
            state, meta = found
            self._checkpoints.remove_after(int(meta["step"]))
            return state, [float(loss) for loss in meta["losses"]]
        state = self._program.initial(seed)
        if self._trained is not None:
            state = self._program.with_encoder(state, self._trained.encoder)
        return state, []

    def _train(self, state: TrainState, losses: list[float], statistics: Statistics) -> TrainState:
        config, start = self.config, len(losses)
        crop = Crop(self._size, scale=config.crop_scale, flip=config.flip)
        examples = TrainingExamples(
            self.training,
            crop,
            batch_size=config.batch_size,
            channels=self._channels,
            seed=self.seed,
        )
        bar = tqdm(
            total=config.steps,
            initial=start,
            unit="step",
            file=sys.stderr,
            disable=not self._progress,
            dynamic_ncols=True,
        )
        seed = jnp.uint32(self.seed)
        pending: list[jax.Array] = []
        with bar, Termination() as termination:
            batches = examples.batches(start, config.steps)
            for done, batch in enumerate(batches, start + 1):
                state, loss = self._program.step(
                    state, batch.images, batch.labels, statistics, seed
                )
                pending.append(loss)
                terminated = termination.after(done) and done < config.steps
                save = terminated or done % config.checkpoint_every == 0
                if save or done == config.steps or len(pending) == FETCHED_STEPS:
                    losses += self._fetched(pending, len(losses))
                    bar.update(len(pending))
                    bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
                    pending = []
                if save:
                    self._checkpoints.save(state, {"losses": losses})
                if terminated:
                    name = f"{termination.name}: {self._folder}"
                    say(f"{name} is saved after step {done} of {config.steps}")
                    raise SystemExit(TERMINATED)  # the signal itself follows
        return state

    def _fetched(self, pending: list[jax.Array], before: int) -> list[float]:
        found = [float(loss) for loss in jax.device_get(pending)]
        for step, loss in enumerate(found, before + 1):
            if not math.isfinite(loss):
                raise NonFiniteLossError(
                    f"loss of step {step} is {loss} in {self._folder}; a lower learning_rate may "
                    "help"
                )
        return found

    def _evaluate(self, segmenter: TrainedSegmenter) -> Iterator[tuple[Prediction, CaseScore]]:
        """Predictions of the whole test images at the masks' own sizes."""
        rows, classes = self.config.batch_size, len(self.test.classes)
        for first in range(0, len(self.test), rows):
            cases = self.test.cases[first : first + rows]
            pairs = [read_case(self.test, case, channels=self._channels) for case in cases]
            masks = segmenter.predict([pixels for pixels, _ in pairs], batch_size=rows)
            for case, (pixels, truth), predicted in zip(cases, pairs, masks, strict=True):
                score = score_case(predicted, truth, classes)
                mean = float(np.nanmean(iou(score.confusion)))
                yield Prediction(case.name, pixels, truth, predicted, mean), score


def _measured(
    training: SegmentationSet, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of the channels over the training cases' pixels."""
    total = np.zeros((2, channels))
    count = 0
    for case in training.cases:
        pixels, _ = read_case(training, case, channels=channels)
        values = pixels.reshape(-1, channels) / 255.0
        total += values.sum(axis=0), (values**2).sum(axis=0)
        count += len(values)
    mean, square = total / count
    return mean, np.sqrt(np.maximum(square - mean**2, 1e-6))
