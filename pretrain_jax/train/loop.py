"""Trains any objective.

It has steps, log, evaluation, checkpoints and signals, and goes on where a run stopped.
"""

import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import jax
import numpy as np

from hardset.cli import printable
from hardset.datafile import versions, write_text_atomic
from pretrain_jax.data.loader import Loader, TooManySkippedError
from pretrain_jax.data.skipping import SKIPPED_NAME
from pretrain_jax.models.simclr import warn_of_few_negatives
from pretrain_jax.synthesis.source import check_outside
from pretrain_jax.train.checkpoint import Checkpoints
from pretrain_jax.train.config import SHIPPED_IMAGES, RunOptions, TrainConfig, config_to_json
from pretrain_jax.train.evaluation import Evaluator
from pretrain_jax.train.flops import peak_flops
from pretrain_jax.train.folder import (
    CHECKPOINTS,
    CONFIG_NAME,
    check_folder,
    claimed,
    write_statistics,
)
from pretrain_jax.train.logging import Progress, RunLog, say
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.setup import Plan, RunData, crop_of, joined, make_step, plan_run, read_data
from pretrain_jax.train.starting import check_weights, with_weights
from pretrain_jax.train.step import Metrics, Step, TrainState, global_batch

# Exit code of a process that SIGTERM ended, as shells report it.
TERMINATED = 128 + 15
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TOLD = {
    signal.SIGINT: "interrupted: the step under way is finished and saved; Ctrl-C again ends at "
    "once, without saving\n",
    signal.SIGTERM: "",
}


class Termination:
    """Holds back SIGTERM and Ctrl-C while the block runs.

    So a step can be finished and saved.

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
        """Give the signals back to who handled them before.

        A signal that was held back arrives now.
        """
        before, self._before = self._before, {}
        for one, handler in before.items():
            signal.signal(one, handler)
        if self._received is not None and before:
            signal.raise_signal(self._received)

    def after(self, step: int) -> bool:
        """Say whether the run has to be saved and ended after this step.

        Call it after every step.
        """
        if self._joined:
            from jax.experimental import multihost_utils

            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received is not None

    @property
    def name(self) -> str:
        """Return the name of what was received, for a message."""
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
    """Says that the loss or the parameters are not finite.

    The checkpoints before are kept.
    """


class Source(Protocol):
    """Gives batches in the order of the steps.

    It goes on where its state was taken.
    """

    def __next__(self) -> Any:
        """Return the batch of the next step.

        It is this host's share of its rows.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, JSON-able."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        ...

    def close(self) -> None:
        """End what prepares batches in the background."""
        ...


@dataclass
class Loop:
    """Trains any objective in a folder that is held.

    It starts from the newest whole checkpoint.

    Attributes:
        folder: of the run.
        options: of the run.
        plan: its sizes.
        step: the compiled step.
        source: of the batches; what it yields goes through `take` to the step.
        take: the arrays of a batch.
        begin: the state before the first step, of the one with drawn parameters.
        meta: what checkpoints hold beside the states of model and source.
        evaluator: looks at the state between steps, None for nobody.
        progress: whether to draw a progress bar on stderr.
        losses: of the steps that this process took.
        resumed_from: step of the checkpoint that this process went on from, 0 without one.
    """

    folder: Path
    options: RunOptions
    plan: Plan
    step: Step
    source: Source
    take: Callable[[Any], Any] = lambda batch: batch
    begin: Callable[[TrainState], TrainState] = lambda state: state
    meta: dict[str, Any] = field(default_factory=dict)
    evaluator: Evaluator | None = None
    progress: bool = False
    losses: list[float] = field(default_factory=list)
    resumed_from: int = 0

    def __post_init__(self) -> None:
        self._checkpoints = Checkpoints(self.folder / CHECKPOINTS, self.options.keep_checkpoints)

    def run(self) -> TrainState:
        """Take all steps that are left, and return the state after them.

        Raises:
            NonFiniteLossError: a loss or a parameter is not finite.
            CheckpointError: a checkpoint cannot be written.
            SystemExit: SIGTERM arrived; a checkpoint was written after the step under way.
            KeyboardInterrupt: Ctrl-C, likewise.
        """
        with Termination() as termination:
            try:
                state = self._start()
                if self.resumed_from < self.plan.steps:
                    state = self._train(state, termination)
            finally:
                self.source.close()
        return state

    def _start(self) -> TrainState:
        found = self._checkpoints.restore(self.step.abstract_state())
        if found is None:
            return self.begin(self.step.initial_state())
        state, meta = found
        start, steps = int(meta["step"]), self.plan.steps
        self.source.restore(meta["loader"])
        self._checkpoints.remove_after(start)
        done = " (finished)" if start == steps else ""
        say(f"going on from step {start} of {steps}{done} in {self.folder}")
        self.resumed_from = start
        return state

    def _train(self, state: TrainState, termination: Termination) -> TrainState:
        options, steps, start = self.options, self.plan.steps, self.resumed_from
        chunk = options.scan_steps
        run = self.step.compile(scan=chunk > 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        log = RunLog(self.folder, start, enabled=jax.process_index() == 0)
        bar = self._new_bar(start)
        pending: list[Metrics] = []
        try:
            if start == 0 and self.evaluator is not None:
                self.evaluator.look(state, log, last=False)
            bar.restart()
            for at in range(start + chunk, steps + 1, chunk):
                state, metrics = run(state, self._batch(chunk))
                pending.append(metrics)
                last, terminated = at == steps, termination.after(at)
                checkpoint = last or terminated or at % options.checkpoint_every == 0
                look = self.evaluator is not None and self.evaluator.due(at, last=last)
                if at % options.log_every == 0 or checkpoint or look:
                    self._report(pending, at, log, bar)
                    pending = []
                if look and self.evaluator is not None:
                    self.evaluator.look(state, log, last=last)
                if checkpoint:
                    log.flush()
                    self._checkpoints.save(state, self.meta | {"loader": self.source.state()})
                if terminated and not last:
                    bar.close()
                    say(f"{termination.name}: {self.folder} is saved after step {at} of {steps}")
                    raise SystemExit(TERMINATED)  # the signal itself follows
                if look or checkpoint:
                    bar.restart()
        finally:
            bar.close()
            log.close()
        return state

    def _batch(self, chunk: int) -> Any:
        """Put one batch on the devices, or several for a scan."""
        rows = [self.take(next(self.source)) for _ in range(chunk)]
        if chunk == 1:
            return global_batch(rows[0], self.plan.mesh)
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *rows)
        return global_batch(stacked, self.plan.mesh, axis=1)

    def _report(self, pending: list[Metrics], at: int, log: RunLog, bar: Progress) -> None:
        """Fetch what the device computed, and log a line for each step.

        It stops if a number is not finite.
        """
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
                + f" in {self.folder}. A lower learning rate, clip_norm = 1 or precision = float32 "
                "may help"
            )
        rates = bar.advance(len(columns.loss), float(columns.loss[-1]))
        for row in range(len(columns.loss)):
            line: dict[str, float | None] = {
                name: float(values[row]) for name, values in columns._asdict().items()
            }
            log.scalars(first + row + 1, line | (rates if row == len(columns.loss) - 1 else {}))
        self.losses += [float(loss) for loss in columns.loss]

    def _new_bar(self, start: int) -> Progress:
        mesh = self.plan.mesh
        peak = self.options.peak_flops or peak_flops(mesh.devices.flat[0])
        return Progress(
            self.plan.steps,
            start,
            batch_size=self.plan.batch_size,
            image_flops=self.step.objective.training_flops(),
            peak=None if peak is None else peak * mesh.size,
            shown=self.progress and jax.process_index() == 0,
        )


@dataclass(frozen=True)
class TrainResult:
    """Describes a finished run.

    Attributes:
        folder: of the run.
        steps: optimiser steps taken altogether.
        resumed_from: step of the checkpoint that this process went on from, 0 without one.
        losses: training loss of every step that this process took.
        validation: (step, loss) of every validation in this process, in order.
        probes: accuracies by name at the end, empty without classes.
        skipped: lines with the reasons of images that were left out, by name.
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
    """Train a model.

    A run that lies in `config.out` goes on from its newest whole checkpoint.

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
        check_weights(config)
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
                return _trained(config, folder, plan, data, progress)
            except TooManySkippedError as error:
                _list_skipped(folder, error.skipped, data.training.refused)
                raise


def _trained(
    config: TrainConfig, folder: Path, plan: Plan, data: RunData, progress: bool
) -> TrainResult:
    """Run the loop in the folder that is held."""
    objective = make_objective(config.model, plan.dtype, data.mean, data.std)
    if objective.whole_batches:
        warn_of_few_negatives(plan.batch_size)
    step = make_step(config, plan, objective)
    evaluator = Evaluator(config, folder, plan, data, objective, step)
    loader = Loader(
        data.training,
        crop_of(config),
        batch_size=plan.batch_size,
        channels=config.model.encoder.channels,
        bits=config.data.bits,
        seed=config.seed,
        workers=config.data.workers,
        skip_at_most=config.data.skip_at_most,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )

    def begin(state: TrainState) -> TrainState:
        return state if config.init is None else with_weights(state, step, config.init)

    loop = Loop(
        folder,
        config,
        plan,
        step,
        loader,
        take=attrgetter("images"),
        begin=begin,
        meta={
            "config": config_to_json(config),
            "statistics": data.statistics(),
            "mean": data.mean,
            "std": data.std,
            "dtype": plan.dtype,
            "versions": versions(),
        },
        evaluator=evaluator,
        progress=progress,
    )
    loop.run()
    skipped = data.skipped | loader.skipped
    _list_skipped(folder, skipped, data.training.refused)
    return TrainResult(
        folder=folder,
        steps=plan.steps,
        resumed_from=loop.resumed_from,
        losses=tuple(loop.losses),
        validation=tuple(evaluator.losses),
        probes=evaluator.accuracies,
        skipped=skipped,
        picture=evaluator.shown,
    )


def _list_skipped(folder: Path, skipped: dict[str, str], refused: Collection[str] = ()) -> None:
    lines = [*sorted(skipped.items()), *(("", one) for one in refused)]
    if lines:
        text = "".join(
            "\t".join(printable(" ".join(one.split())) for one in line) + "\n" for line in lines
        )
        write_text_atomic(folder / SKIPPED_NAME, text)
