"""The training loop: steps, log, validation, checkpoints, and going on after an interruption."""

import math
import os
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from hardset.datafile import versions, write_text_atomic
from pretrain_jax.data.loader import Loader, TooManySkippedError
from pretrain_jax.models.simclr import warn_of_few_negatives
from pretrain_jax.pictures import write_png
from pretrain_jax.synthesis.source import check_outside
from pretrain_jax.train.checkpoint import Checkpoints
from pretrain_jax.train.config import SHIPPED_IMAGES, TrainConfig, config_to_json
from pretrain_jax.train.evaluation import Evaluator
from pretrain_jax.train.flops import peak_flops
from pretrain_jax.train.folder import (
    CHECKPOINTS,
    CONFIG_NAME,
    SKIPPED_NAME,
    check_folder,
    claimed,
    write_statistics,
)
from pretrain_jax.train.logging import Progress, RunLog, say
from pretrain_jax.train.setup import Plan, RunData, crop_of, joined, make_step, plan_run, read_data
from pretrain_jax.train.step import Metrics, Step, TrainState, global_batch
from pretrain_jax.train.weights import with_weights

# Exit code of a process that SIGTERM ended, as shells report it.
TERMINATED = 128 + 15
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOLD = {
    signal.SIGINT: "interrupted: the step under way is finished and saved; Ctrl-C again ends at "
    "once, without saving\n",
    signal.SIGTERM: "",
}


class Termination:
    """Holds SIGTERM and Ctrl-C back while the block runs, so that a step can be finished and saved.

    With SIGTERM clusters take machines back. A second Ctrl-C ends the process at once. One process
    catches the signals itself. Several, joined by jax.distributed, agree on a step that all of them
    reach: they can save only together, and Ctrl-C ends them as ever. Outside the main thread, where
    Python allows no handler, signals end the process as ever. A signal that the process was started
    to ignore, as shells do with Ctrl-C for what runs in the background, stays ignored.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._joined = jax.process_count() > 1

    def __enter__(self) -> "Termination":
        """Start to hold the signals back."""
        if not self._joined and threading.current_thread() is threading.main_thread():
            self._before = {
                one: signal.signal(one, self._note)
                for one in SIGNALS
                if signal.getsignal(one) is not signal.SIG_IGN
            }
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back to who handled them before; one that was held back arrives now."""
        before, self._before = self._before, {}
        for one, handler in before.items():
            signal.signal(one, handler)
        if self._received is not None and before:
            signal.raise_signal(self._received)

    def after(self, step: int) -> bool:
        """Whether the run has to be saved and ended after this step; call it after every one."""
        if self._joined:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received is not None

    @property
    def name(self) -> str:
        """What was received, for a message."""
        return "SIGTERM" if self._received is not signal.SIGINT else "interrupted"

    def _note(self, number: int, frame: FrameType | None) -> None:
        received = signal.Signals(number)
        if self._received is signal.SIGINT and received is signal.SIGINT:
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)
        self._received = received
        # Not through sys.stderr, which this thread may be writing to at the moment.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, TOLD[received].encode())


class NonFiniteLossError(ValueError):
    """The loss or the parameters are not finite; the checkpoints before are kept."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        folder: of the run.
        steps: optimiser steps taken altogether.
        resumed_from: step of the checkpoint that this process went on from, 0 without one.
        losses: training loss of every step that this process took.
        validation: (step, loss) of every validation in this process, in order.
        probes: accuracies by name at the end, empty without classes.
        skipped: reasons of unreadable images by name.
        picture: file with reconstructions, or None.
    """

    folder: Path
    steps: int
    resumed_from: int
    losses: tuple[float, ...]
    validation: tuple[tuple[int, float], ...]
    probes: dict[str, float]
    skipped: dict[str, str]
    picture: Path | None


def train(config: TrainConfig, *, progress: bool = False) -> TrainResult:
    """Train a model; a run that lies in `config.out` goes on from its newest whole checkpoint.

    The losses of an interrupted run that went on are those of one that was not, bit for bit on
    CPU: masks, crops and order are functions of the seed and the step.

    Args:
        config: the run.
        progress: whether to draw a progress bar on stderr.

    Raises:
        ValueError: a bad field, bad data, a folder that belongs to something else or in which
            another process works, images that have changed since the run began; a non-finite
            loss (`NonFiniteLossError`), unreadable images beyond the allowed share
            (`TooManySkippedError`), a checkpoint that cannot be written (`CheckpointError`).
        OSError: the folder cannot be written.
        SystemExit: SIGTERM arrived; a checkpoint was written after the step under way.
        KeyboardInterrupt: Ctrl-C, likewise.
    """
    config.check()
    for source in (config.data.path, config.data.validation):
        if source is not None:
            check_outside(source, config.out)
    with joined(config):
        if config.steps is not None:
            plan_run(config)
        folder = check_folder(config)
        with ExitStack() as held:
            # A run that lies there is held before its images are read. A new folder is made after
            # that, so that bad images leave none; shipped images are written into it.
            first = config.data.path == SHIPPED_IMAGES or (folder / CONFIG_NAME).is_file()
            if first:
                held.enter_context(claimed(config))
            data = read_data(config, folder)
            plan = plan_run(config, len(data.training))
            if not first:
                held.enter_context(claimed(config))
            write_statistics(folder, data.statistics())
            try:
                return _Run(config, folder, plan, data, progress).run()
            except TooManySkippedError as error:
                _list_skipped(folder, error.skipped)
                raise


class _Run:
    def __init__(
        self, config: TrainConfig, folder: Path, plan: Plan, data: RunData, progress: bool
    ) -> None:
        self._config, self._folder, self._plan, self._data = config, folder, plan, data
        self._step: Step = make_step(config, plan, data)
        self._checkpoints = Checkpoints(folder / CHECKPOINTS, config.keep_checkpoints)
        if self._step.objective.whole_batches:
            warn_of_few_negatives(plan.batch_size)
        self._evaluator = Evaluator(config, plan, data, self._step)
        self._progress = progress and jax.process_index() == 0
        self._losses: list[float] = []
        self._validation: list[tuple[int, float]] = []
        self._probes: dict[str, float] = {}
        self._picture: Path | None = None

    def run(self) -> TrainResult:
        with Termination() as termination:
            loader = self._loader()
            try:
                state, start = self._start(loader)
                if start < self._plan.steps:
                    self._train(state, start, loader, termination)
            finally:
                loader.close()
        skipped = self._data.skipped | loader.skipped
        _list_skipped(self._folder, skipped)
        return TrainResult(
            folder=self._folder,
            steps=self._plan.steps,
            resumed_from=start,
            losses=tuple(self._losses),
            validation=tuple(self._validation),
            probes=self._probes,
            skipped=skipped,
            picture=self._picture,
        )

    def _loader(self) -> Loader:
        data = self._config.data
        return Loader(
            self._data.training,
            crop_of(self._config),
            batch_size=self._plan.batch_size,
            channels=self._config.model.encoder.channels,
            bits=data.bits,
            seed=self._config.seed,
            workers=data.workers,
            max_skipped_share=data.max_skipped_share,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    def _start(self, loader: Loader) -> tuple[TrainState, int]:
        found = self._checkpoints.restore(self._step.abstract_state())
        if found is None:
            state = self._step.initial_state()
            if self._config.init is not None:
                state = with_weights(state, self._step, self._config.init)
            return state, 0
        state, meta = found
        start = int(meta["step"])
        loader.restore(meta["loader"])
        self._checkpoints.remove_after(start)
        done = " (finished)" if start == self._plan.steps else ""
        say(f"going on from step {start} of {self._plan.steps}{done} in {self._folder}")
        return state, start

    def _train(
        self, state: TrainState, start: int, loader: Loader, termination: Termination
    ) -> None:
        config, steps = self._config, self._plan.steps
        chunk = config.scan_steps
        run = self._step.compile(scan=chunk > 1)
        log = RunLog(self._folder, start, enabled=jax.process_index() == 0)
        bar = self._new_bar(start)
        pending: list[Metrics] = []
        try:
            if start == 0:
                self._evaluate(state, 0, log)
            bar.restart()
            for at in range(start + chunk, steps + 1, chunk):
                state, metrics = run(state, self._pixels(loader, chunk))
                pending.append(metrics)
                last, terminated = at == steps, termination.after(at)
                checkpoint = last or terminated or at % config.checkpoint_every == 0
                validate = last or (config.validate_every and at % config.validate_every == 0)
                probe = config.probe_every and (last or at % config.probe_every == 0)
                if at % config.log_every == 0 or checkpoint or validate or probe:
                    self._report(pending, at, log, bar)
                    pending = []
                if validate:
                    self._evaluate(state, at, log)
                if probe and (probes := self._evaluator.probes(state)):
                    self._probes = probes
                    log.scalars(at, dict(probes))
                if checkpoint:
                    log.flush()
                    self._checkpoints.save(state, self._meta(loader))
                if terminated and not last:
                    bar.close()
                    say(f"{termination.name}: {self._folder} is saved after step {at} of {steps}")
                    raise SystemExit(TERMINATED)  # the signal itself follows
                if validate or probe or checkpoint:
                    bar.restart()
        finally:
            bar.close()
            log.close()

    def _pixels(self, loader: Loader, chunk: int) -> jax.Array:
        if chunk == 1:
            return global_batch(next(loader).images, self._plan.mesh)
        rows = np.stack([next(loader).images for _ in range(chunk)])
        return global_batch(rows, self._plan.mesh, axis=1)

    def _report(self, pending: list[Metrics], at: int, log: RunLog, bar: Progress) -> None:
        """Fetch what the device computed, stop if it is not finite, log a line a step."""
        fetched = [jax.tree.map(np.atleast_1d, jax.device_get(metrics)) for metrics in pending]
        columns = Metrics(*(np.concatenate(parts) for parts in zip(*fetched, strict=True)))
        first = at - len(columns.loss)
        finite = np.isfinite(columns.loss) & np.isfinite(columns.param_norm)
        if not finite.all():
            bad = int(np.argmin(finite))
            what, value = (
                ("parameters", columns.param_norm[bad])
                if math.isfinite(columns.loss[bad])
                else ("loss", columns.loss[bad])
            )
            kept = self._checkpoints.steps()
            raise NonFiniteLossError(
                f"{what} of step {first + bad + 1} are {value}; "
                + (f"the checkpoint of step {kept[-1]} is kept" if kept else "none was saved yet")
                + ". A lower learning rate, clip_norm = 1 or precision = float32 may help"
            )
        rates = bar.advance(len(columns.loss), float(columns.loss[-1]))
        for row in range(len(columns.loss)):
            line: dict[str, float | None] = {
                name: float(values[row]) for name, values in columns._asdict().items()
            }
            log.scalars(first + row + 1, line | (rates if row == len(columns.loss) - 1 else {}))
        self._losses += [float(loss) for loss in columns.loss]

    def _evaluate(self, state: TrainState, at: int, log: RunLog) -> None:
        loss = self._evaluator.validation_loss(state)
        self._validation.append((at, loss))
        log.scalars(at, {"validation_loss": loss})
        pixels = self._evaluator.picture(state)
        if pixels is not None and jax.process_index() == 0:
            self._picture = self._folder / "pictures" / f"step-{at:07d}.png"
            write_png(self._picture, pixels)
            log.picture(at, "reconstructions", pixels)

    def _meta(self, loader: Loader) -> dict[str, Any]:
        return {
            "config": config_to_json(self._config),
            "statistics": self._data.statistics(),
            "mean": self._data.mean,
            "std": self._data.std,
            "dtype": self._plan.dtype,
            "loader": loader.state(),
            "versions": versions(),
        }

    def _new_bar(self, start: int) -> Progress:
        mesh = self._plan.mesh
        peak = self._config.peak_flops or peak_flops(mesh.devices.flat[0])
        return Progress(
            self._plan.steps,
            start,
            batch_size=self._plan.batch_size,
            image_flops=self._step.objective.training_flops(),
            peak=None if peak is None else peak * mesh.size,
            shown=self._progress,
        )


def _list_skipped(folder: Path, skipped: dict[str, str]) -> None:
    if skipped:
        text = "".join(f"{name}\t{reason}\n" for name, reason in sorted(skipped.items()))
        write_text_atomic(folder / SKIPPED_NAME, text)
