"""Runs all stages of one configuration.

The same call again goes on at the first unfinished stage.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from hardset.datafile import write_text_atomic
from hardset.folder import (
    MANIFEST,
    Claim,
    Manifest,
    claimed_inputs,
    read_manifest,
    together,
)
from pretrain_jax.data.listing import split_layout
from pretrain_jax.pipeline.comparison import compare
from pretrain_jax.pipeline.config import OBJECTIVES, PipelineConfig, pipeline_to_json
from pretrain_jax.pipeline.ratios import (
    RECOMMEND,
    TOY,
    check_labelled,
    find_toy_ratio,
    known_ratios,
    recommend_ratio,
)
from pretrain_jax.pipeline.training import content_digest, pretrain, probe
from pretrain_jax.places import (
    CONFIG,
    FAILED,
    FULL_LIST,
    HALVES,
    IMAGES,
    INDEX,
    LEAKAGE,
    PROBE,
    PROPOSALS,
    RECOMMENDED,
    RUN,
    SHIPPED,
    TOY_MODEL,
    Cell,
    Places,
    holds_stages,
    images_of_half,
    scratch_cell,
)
from pretrain_jax.report import write_report
from pretrain_jax.report.collect import collect
from pretrain_jax.report.page import PAGE
from pretrain_jax.segmentation import (
    SegmentationSet,
    finetune,
    read_segmentation,
    write_shipped_segmentation,
)
from pretrain_jax.segmentation.config import HeadKind, Mode
from pretrain_jax.segmentation.finetuning import FINETUNE, dataset_digest
from pretrain_jax.synthesis import METHODS, index_images, propose, score, select, synthesise
from pretrain_jax.synthesis.source import check_outside, survey
from pretrain_jax.train.config import (
    FREE_FIELDS,
    FREE_OPTIONS,
    json_differences,
    renamed_data,
)
from pretrain_jax.train.loop import NonFiniteLossError

# Fields that say where the user's files lie. The files may lie elsewhere by now, if they are the
# same.
PLACES = ("data", "downstream", "probe.weights", "propose.sam.weights", "mae.train.init")
# Fields that may change when a pipeline goes on: those places, and lists that only add runs.
FREE = frozenset(
    {*PLACES, "out", "cells", "heads", "levels", "scratch_seeds", "evaluations"}
    | {f"{name}.{one}" for name in ("mae", "simclr") for one in ("methods", "ratios", "seeds")}
    | {f"{name}.train.{one}" for name in ("mae", "simclr") for one in FREE_FIELDS}
    | {f"finetune.{one}" for one in FREE_OPTIONS}
)

# Words of version 0.1 and their present names. They stand in configurations and among inputs.
RENAMED = {"checkpoint": "weights"}

RATIO_STAGES = (RECOMMEND.name, TOY.name)


def claim_of(config: PipelineConfig) -> Claim:
    """Describe whose folder a pipeline's is.

    It is that of the same pipeline, to which runs may be added.

    Where config.json is lost or damaged, the stages tell whether the pipeline is this one, as each
    of them knows what it was made of.
    """
    folder = Path(config.out)
    record = _echo(config, folder)

    def refuse(there: dict[str, Any]) -> str | None:
        there = _in_todays_words(there)
        differences = json_differences(record, there, FREE)
        differences += _other_inputs(config, folder, record, there)
        if not differences:
            return None
        told = "; ".join(differences)
        return f"holds a pipeline of another configuration: {told}; choose another --out"

    def foreign(_: list[str]) -> str | None:
        known = holds_stages(folder)
        return None if known else "exists and holds no pipeline; choose another --out"

    return Claim(folder, CONFIG, record, refuse, foreign, renewed=True)


def _in_todays_words(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a configuration of an earlier version to the present names."""

    def weights(part: dict[str, Any]) -> dict[str, Any]:
        return {RENAMED.get(name, name): value for name, value in part.items()}

    return config | {
        "probe": weights(config["probe"]),
        "propose": config["propose"] | {"sam": weights(config["propose"]["sam"])},
        "finetune": {**FINETUNE.later, **config["finetune"]},
        **{
            name: config[name] | {"train": renamed_data(config[name]["train"])}
            for name in OBJECTIVES
        },
    }


def report_folder(out: Path) -> Path:
    """Find the folder of the report.

    It is a new one beside those from before runs were added.
    """
    inputs = collect(out).inputs
    for number in count(1):
        page = Places(out).report(number)
        if (known := claimed_inputs(page)) is None or known == inputs:
            return page
    raise AssertionError


def _echo(config: PipelineConfig, out: Path) -> dict[str, Any]:
    """Convert the configuration to JSON, with places in full."""
    values = pipeline_to_json(config, known_ratios(out))
    if not config.data_is_shipped:
        layout, path = split_layout(config.data)
        full = os.path.realpath(path)
        values["data"] = f"{layout}:{full}" if layout else full
    values["downstream"] = [
        f"{layout}:{os.path.realpath(folder)}" for layout, folder in config.layouts()
    ]
    for part in (values["probe"], values["propose"]["sam"]):
        if part["weights"] is not None:
            part["weights"] = os.path.realpath(part["weights"])
    return values


def _other_inputs(
    config: PipelineConfig, folder: Path, wanted: dict[str, Any], there: dict[str, Any]
) -> Iterator[str]:
    """Name the places whose content has changed since stages were made.

    These places differ from those recorded, and hold something else than the stages were made of.
    """
    known = _recorded(config)
    ours, theirs = _places(wanted), _places(there)
    for name in sorted(ours.keys() | theirs.keys()):
        own, other = ours.get(name), theirs.get(name)
        if own == other:
            continue
        same = False
        if own is not None and other is not None and name in known:
            place, entry, digest = known[name]
            made_of = claimed_inputs(folder / place)
            if made_of is not None:
                made_of = {RENAMED.get(one, one): sha for one, sha in made_of.items()}
            same = made_of is None or made_of.get(entry) == digest()
        if not same:
            yield f"{name} = {own!r} here and {other!r} there"


def _recorded(config: PipelineConfig) -> dict[str, tuple[str, str, Callable[[], str]]]:
    """Find the stage and the input that recorded each place.

    The digest that the place has now comes with them.
    """
    stride = config.mae.train.data.frame_stride
    init, weights = str(config.mae.train.init), str(config.probe.weights)
    known: dict[str, tuple[str, str, Callable[[], str]]] = {
        "data": (INDEX, "source", lambda: survey(config.data, stride).digest),
        "probe.weights": (PROBE, "weights", lambda: content_digest(weights)),
        "propose.sam.weights": (
            f"{PROPOSALS}/sam",
            "weights",
            lambda: config.propose.sam.inputs()["weights"],
        ),
        "mae.train.init": (PROBE, "init", lambda: content_digest(init)),
    }
    for number, (layout, place) in enumerate(config.layouts()):

        def own(layout: str = layout, place: str = place) -> str:
            return dataset_digest(read_segmentation(place, layout))

        known[f"downstream.{number}"] = LEAKAGE, f"dataset {number}", own
    return known


def _places(values: dict[str, Any]) -> dict[str, str | None]:
    """List a configuration's places by their names.

    Names have dots, and those in lists have numbers.
    """
    found: dict[str, str | None] = {}
    for name in PLACES:
        value: Any = values
        for part in name.split("."):
            value = value[part]
        if isinstance(value, list):
            found |= {f"{name}.{number}": one for number, one in enumerate(value)}
        else:
            found[name] = value
    return found


@dataclass(frozen=True)
class PipelineResult:
    """Describes a pipeline that came to its end.

    Attributes:
        folder: of the pipeline.
        seconds: of work by stage, those of earlier processes included.
        finished: stages that this process did.
        failed: sentence by folder of the runs that did not converge.
        report: page, or None where there is no segmentation data set.
    """

    folder: Path
    seconds: dict[str, float]
    finished: int
    failed: dict[str, str]
    report: Path | None


@dataclass(frozen=True)
class Task:
    """Represents one stage of a pipeline.

    It has the stage's folder, what fills it, and the run that it needs, which may have failed.
    """

    stage: str
    folder: Path
    fill: Callable[[], Manifest | None]
    needs: Path | None = None


def run_pipeline(
    config: PipelineConfig,
    *,
    progress: bool = False,
    say: Callable[[str], Any] = lambda line: None,
) -> PipelineResult:
    """Run every stage that is not finished.

    Args:
        config: the pipeline; what lies in `config.out` must be of the same one, to which methods,
            ratios, seeds and evaluations may be added.
        progress: whether stages draw progress bars on stderr.
        say: called with a line for each stage.

    Raises:
        ValueError: bad configuration or data, or a folder that belongs to something else.
        OSError: the folder cannot be written.
    """
    check_pipeline(config)
    claim, joined = claim_of(config), config.mae.train.cluster.join
    lost = claim.folder.is_dir() and claim.known() is None and holds_stages(claim.folder)
    gone = "has changed since it was written" if (claim.folder / CONFIG).exists() else "is gone"
    with claim.held(joined=joined), together(joined):
        if lost:
            say(
                f"warning: {claim.folder / CONFIG} {gone}; it is written anew with the options of "
                "this command"
            )
        return _run(config, claim.folder, progress, say)


def check_pipeline(config: PipelineConfig) -> None:
    """Check all that can be checked before anything is written or computed.

    Raises:
        ValueError: see `run_pipeline`.
    """
    config.check()
    check_outside(config.data, config.out)
    given = config.probe.weights
    if given is not None and not Path(given).exists():
        raise ValueError(f"probe.weights = {given} do not exist; a run's folder or a file")
    if config.has_ratio(RECOMMENDED) and not config.data_is_shipped:
        check_labelled(config.data)
    for layout, folder in config.layouts():
        check_outside(folder, config.out)
        read_segmentation(folder, layout)  # what is missing is said before anything is written
    claim_of(config).check()


def _run(
    config: PipelineConfig, out: Path, progress: bool, say: Callable[[str], Any]
) -> PipelineResult:
    given, config = config, _with_data(config, out)
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    finished, report = 0, None
    datasets = [read_segmentation(folder, layout) for layout, folder in config.layouts()]
    for task in tasks(config, out, datasets, progress):
        name = task.folder.relative_to(out).as_posix()
        before = (task.folder / MANIFEST).is_file()
        started = time.monotonic()
        if task.needs is not None and not (task.needs / MANIFEST).is_file():
            failed[name] = f"{task.needs.relative_to(out).as_posix()} failed"
            continue
        (task.folder / FAILED).unlink(missing_ok=True)
        try:
            manifest = task.fill()
        except NonFiniteLossError as error:
            failed[name] = str(error)
            write_text_atomic(task.folder / FAILED, f"{error}\n")
            say(f"{name:<60} failed: {error}")
            continue
        if task.stage in RATIO_STAGES:
            claim_of(given).write()
        if manifest is None:
            raise ValueError(
                f"{task.folder}: shards of other processes are missing; run the pipeline again "
                "when they are there"
            )
        report = task.folder / PAGE if task.stage == "report" else None
        seconds[task.stage] = seconds.get(task.stage, 0.0) + manifest.seconds
        finished += not before
        took = "done before" if before else f"{time.monotonic() - started:7.1f} s"
        say(f"{name:<60} {took}")
        if task.stage in RATIO_STAGES:
            say(f"  ratio {manifest.counts['ratio']:g}: {manifest.notes[0]}")
    return PipelineResult(out, seconds, finished, failed, report)


def tasks(
    config: PipelineConfig,
    out: Path,
    datasets: Sequence[SegmentationSet],
    progress: bool,
) -> Iterator[Task]:
    """List every stage after those that it reads.

    Finished stages return at once.
    """
    at = Places(out)
    yield Task(
        "index",
        at.index,
        partial(
            index_images,
            config.data,
            at.index,
            frame_stride=config.mae.train.data.frame_stride,
            shards=config.shards,
            progress=progress,
        ),
    )
    if datasets:
        yield Task(
            "leakage",
            at.leakage,
            partial(compare, at.index, datasets, at.leakage, config=config.finetune),
        )
    yield Task(
        "probe",
        at.probe,
        partial(
            probe,
            at.index,
            at.probe,
            config=config.mae.train,
            weights=config.probe.weights,
            halves=config.probe.halves,
            seed=config.seed,
            progress=progress,
        ),
    )
    proposals = config.proposals()
    for name, draw in proposals:
        yield _proposing(config, at, name, draw, progress)
    for name, draw in proposals:
        source, folder = at.proposals(name, draw), at.scores(name, draw)
        yield _scoring(config, source, at.probe / RUN, folder, progress)
    of_images = {IMAGES: RUN} if config.scores_images() else {}
    of_images |= {images_of_half(half): half for half in HALVES if config.probe.halves}
    for name, run in of_images.items():
        yield _scoring(config, at.index, at.probe / run, at.scores(name), progress)
    if config.has_ratio(RECOMMENDED):
        yield Task(RECOMMEND.name, at.recommended, partial(recommend_ratio, out, seed=config.seed))
    if config.has_ratio(TOY_MODEL):
        yield Task(TOY.name, at.toy_model, partial(find_toy_ratio, out, seed=config.seed))
    cells = config.cells(known_ratios(out))
    for cell in {cell.selection: cell for cell in cells}.values():
        yield _selecting(config, at, cell)
        yield _synthesising(config, at, cell)
    for cell in cells:
        yield _pretraining(config, at, cell, progress)
    if not datasets:
        return
    runs: list[tuple[Cell, HeadKind, Mode]]
    runs = [(cell, *pair) for cell in cells for pair in config.pairs()]
    scratch = [scratch_cell(seed) for seed in config.mae.seeds]
    runs += [(cell, head, "scratch") for cell in scratch for head in config.scratch_heads()]
    for cell, head, mode in runs:
        for dataset, level in zip(datasets, config.levels(), strict=True):
            yield _finetuning(config, at, cell, head, mode, dataset, level, progress)
    page = report_folder(out)
    yield Task("report", page, partial(write_report, out, page))


def _proposing(
    config: PipelineConfig, at: Places, name: str, draw: int | None, progress: bool
) -> Task:
    folder = at.proposals(name, draw)
    return Task(
        "propose",
        folder,
        partial(
            propose,
            at.index,
            folder,
            proposer=config.propose.named(name),
            seed=config.seed if draw is None else draw,
            shards=config.shards,
            progress=progress,
        ),
    )


def _scoring(
    config: PipelineConfig, source: Path, model: Path, folder: Path, progress: bool
) -> Task:
    return Task(
        "score",
        folder,
        partial(
            score,
            source,
            model,
            folder,
            masks=config.score.masks,
            seed=config.seed,
            space=config.score.space,
            batch_size=config.score.batch_size,
            shards=config.shards,
            progress=progress,
        ),
    )


def _selecting(config: PipelineConfig, at: Places, cell: Cell) -> Task:
    kind = METHODS[cell.method].source
    if kind == "index":
        source = at.index
    else:
        source = at.scores(*((IMAGES,) if kind == "images" else config.proposals_of(cell)))
    folder = at.selection(cell.selection)
    return Task(
        "select",
        folder,
        partial(
            select,
            source,
            folder,
            method=cell.method,
            ratio=cell.ratio,
            seed=config.seed if cell.draw is None else cell.draw,
            patches=config.patches,
            storage=config.storage,
        ),
    )


def _synthesising(config: PipelineConfig, at: Places, cell: Cell) -> Task:
    chosen, folder = at.selection(cell.selection), at.synthesised(cell.selection)
    return Task("synthesise", folder, partial(synthesise, chosen, folder, patches=config.patches))


def _pretraining(config: PipelineConfig, at: Places, cell: Cell, progress: bool) -> Task:
    def fill() -> Manifest:
        counts = read_manifest(at.index, "index").counts
        return pretrain(
            at.synthesised(cell.selection),
            at.pretrained(cell),
            config=config.trials(cell.objective).train,
            seed=cell.seed,
            protocol=config.protocol,
            full_images=int(counts["images"] - counts["unreadable"]),
            validation=at.probe / FULL_LIST,
            probe=at.probe,
            progress=progress,
        )

    return Task(f"pretrain {cell.objective}", at.pretrained(cell), fill)


def _finetuning(
    config: PipelineConfig,
    at: Places,
    cell: Cell,
    head: HeadKind,
    mode: Mode,
    dataset: SegmentationSet,
    level: str,
    progress: bool,
) -> Task:
    folder = at.finetuned(cell, level, head, mode)
    pretrained = None if mode == "scratch" else at.pretrained(cell)
    encoder = config.mae.train.model.encoder
    options = dataclasses.replace(config.finetune, head=head, mode=mode, encoder=encoder)
    return Task(
        f"finetune {head}-{mode}",
        folder,
        lambda: finetune(
            pretrained,
            dataset,
            folder,
            config=options,
            seed=cell.seed,
            compared=int(read_manifest(at.leakage, "leakage").counts["images"]),
            progress=progress,
        ),
        pretrained,
    )


def _with_data(config: PipelineConfig, out: Path) -> PipelineConfig:
    """Write out the shipped images and masks, where they are asked for."""
    if not config.data_is_shipped:
        return config
    side = config.mae.train.model.encoder.size[0]
    found = write_shipped_segmentation(out / SHIPPED, side=side)
    return dataclasses.replace(
        config, data=str(found.pretraining), downstream=(str(found.segmentation),)
    )
