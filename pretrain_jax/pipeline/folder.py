"""A pipeline's folder: which pipeline it holds, and where its reports lie."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hardset.lock import LOCK
from pretrain_jax.data.listing import split_layout
from pretrain_jax.pipeline.config import PipelineConfig, pipeline_to_json
from pretrain_jax.pipeline.pretraining import content_digest
from pretrain_jax.pipeline.recommendation import recommended_in
from pretrain_jax.report.collect import CONFIG, PARTS, collect
from pretrain_jax.segmentation import read_segmentation
from pretrain_jax.segmentation.finetuning import dataset_digest
from pretrain_jax.stages.files import read_record, write_record
from pretrain_jax.stages.manifest import CLAIM, MANIFEST, claimed_inputs
from pretrain_jax.synthesis.source import survey
from pretrain_jax.train.config import FREE_FIELDS, json_differences

__all__ = ["claimable", "lost_echo", "report_folder", "write_echo"]

# Places of what the user gave: it may lie elsewhere by now, if it is the same.
PLACES = ("data", "downstream", "probe.checkpoint", "propose.sam.checkpoint", "mae.train.init")
# What may change when a pipeline goes on: those, and lists that only add runs.
FREE = frozenset(
    {*PLACES, "out", "cells", "heads", "levels", "scratch_seeds", "evaluations"}
    | {f"{name}.{one}" for name in ("mae", "simclr") for one in ("methods", "ratios", "seeds")}
    | {f"{name}.train.{one}" for name in ("mae", "simclr") for one in FREE_FIELDS}
)
SHIPPED = "data"
REPORT = re.compile(r"report(-\d+)?")


def claimable(config: PipelineConfig) -> Path:
    """The pipeline's folder, where it is new, empty or holds this pipeline; nothing is written.

    A pipeline whose config.json is lost or damaged is this one where its stages say so, each of
    which knows what it was made of.

    Raises:
        ValueError: it holds something else, or a pipeline that differs in more than added runs.
    """
    folder = Path(config.out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another --out")
    there = _known_echo(folder)
    if there is not None:
        wanted = _echo(config, folder)
        differences = json_differences(wanted, there, FREE)
        differences += _other_inputs(config, folder, wanted, there)
        if differences:
            raise ValueError(
                f"{folder} holds a pipeline of another configuration: {'; '.join(differences)}; "
                "choose another --out"
            )
    elif (
        folder.exists()
        and any(one.name != LOCK for one in folder.iterdir())
        and not _holds_stages(folder)
    ):
        raise ValueError(f"{folder} exists and holds no pipeline; choose another --out")
    return folder


def lost_echo(out: Path) -> str | None:
    """A sentence where a pipeline's folder has no config.json that can be read."""
    if _known_echo(out) is not None or not _holds_stages(out):
        return None
    what = "has changed since it was written" if (out / CONFIG).exists() else "is gone"
    return f"warning: {out / CONFIG} {what}; it is written anew with the options of this command"


def write_echo(config: PipelineConfig, out: Path) -> None:
    """Write the file that says what the pipeline is."""
    write_record(out / CONFIG, _echo(config, out))


def report_folder(out: Path) -> Path:
    """Of the report on what there is now: a new one beside those from before runs were added."""
    inputs = collect(out).inputs
    page, number = out / "report", 1
    while (known := claimed_inputs(page)) is not None and known != inputs:
        number += 1
        page = out / f"report-{number}"
    return page


def _echo(config: PipelineConfig, out: Path) -> dict[str, Any]:
    """The configuration as JSON has it, places in full."""
    values = pipeline_to_json(config, recommended_in(out))
    if not config.data_is_shipped:
        layout, path = split_layout(config.data)
        full = os.path.realpath(path)
        values["data"] = f"{layout}:{full}" if layout else full
    values["downstream"] = [
        f"{layout}:{os.path.realpath(folder)}" for layout, folder in config.layouts()
    ]
    for part in (values["probe"], values["propose"]["sam"]):
        if part["checkpoint"] is not None:
            part["checkpoint"] = os.path.realpath(part["checkpoint"])
    return values


def _known_echo(folder: Path) -> dict[str, Any] | None:
    try:
        return read_record(folder / CONFIG)
    except ValueError:
        return None


def _holds_stages(folder: Path) -> bool:
    """Whether a folder holds stages of a pipeline, and nothing else."""
    names = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
    known = {*PARTS, CONFIG, SHIPPED}
    if any(name not in known and not REPORT.fullmatch(name) for name in names):
        return False
    places = [folder / part for part in PARTS]
    return any(next(place.rglob(name), None) for place in places for name in (CLAIM, MANIFEST))


def _other_inputs(
    config: PipelineConfig, folder: Path, wanted: dict[str, Any], there: dict[str, Any]
) -> Iterator[str]:
    """Places that differ and hold something else than what the stages were made of."""
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
            same = made_of is None or made_of.get(entry) == digest()
        if not same:
            yield f"{name} = {own!r} here and {other!r} there"


def _recorded(config: PipelineConfig) -> dict[str, tuple[str, str, Callable[[], str]]]:
    """Of places: the stage and the input that recorded them, and what that would be now."""
    stride = config.mae.train.data.frame_stride
    init, checkpoint = str(config.mae.train.init), str(config.probe.checkpoint)
    known: dict[str, tuple[str, str, Callable[[], str]]] = {
        "data": ("index", "source", lambda: survey(config.data, stride).digest),
        "probe.checkpoint": ("probe", "checkpoint", lambda: content_digest(checkpoint)),
        "propose.sam.checkpoint": (
            "proposals/sam",
            "checkpoint",
            lambda: config.propose.sam.inputs()["checkpoint"],
        ),
        "mae.train.init": ("probe", "init", lambda: content_digest(init)),
    }
    for number, (layout, place) in enumerate(config.layouts()):

        def own(layout: str = layout, place: str = place) -> str:
            return dataset_digest(read_segmentation(place, layout))

        known[f"downstream.{number}"] = "leakage", f"dataset {number}", own
    return known


def _places(values: dict[str, Any]) -> dict[str, str | None]:
    """The places of a configuration by their names with dots, those of lists with numbers."""
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
