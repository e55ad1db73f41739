"""Reads the content of a run's folder.

It finds finished and unfinished stages, and results of fine-tuning.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardset.folder import MANIFEST, Manifest, digest, output, read_manifest
from hardset.listing import read_record
from pretrain_jax.places import (
    CONFIG,
    FAILED,
    PARTS,
    Cell,
    finetuned_place,
    scratch_cell,
    stages_in,
)

METRICS = ("miou", "dice", "boundary_f")
# Entries of a configuration that are places, which no number depends on.
# `weights` was called `checkpoint` in version 0.1.
PLACES = ("data", "downstream", "out", "path", "validation", "init", "weights", "checkpoint")
# Fields of fine-tuning that version 0.1 did not record, at what they were then.
LATER = {
    "blocks": 4,
    "accumulation": 1,
    "ema_decay": None,
    "devices": 1,
    "fsdp": 1,
    "keep_checkpoints": 2,
    "log_every": 50,
    "peak_flops": None,
    "precision": "float32",
    "scan_steps": 1,
}
RESULT = "result.json"


@dataclass(frozen=True)
class Finding:
    """Describes a finished stage.

    Attributes:
        place: its folder, relative to the run's.
        manifest: its manifest.
        digest: sha256 of the manifest, by which later stages name it.
    """

    place: str
    manifest: Manifest
    digest: str


@dataclass(frozen=True)
class Result:
    """Describes one fine-tuned model.

    Attributes:
        place: its folder, relative to the run's.
        dataset: segmentation data set.
        method: how the pre-training data were selected.
        percent: nominal storage in percent.
        objective: of pre-training, "mae" or "simclr".
        seed: of pre-training and fine-tuning.
        head: "dpt", "linear" or "mlp".
        mode: "frozen", "full" or "scratch".
        metrics: value of each of METRICS as a fraction; NaN where it is none.
        intervals: bootstrap interval over test cases of each.
        storage_ratio: kept pixels over those of all data.
        steps: of fine-tuning.
        seconds: of fine-tuning.
        classes: names.
        cases: number of test cases.
        groups: of them, each of which is drawn whole for the intervals.
        baselines: mIoU of the trivial baselines by name.
    """

    place: str
    dataset: str
    method: str
    percent: float
    objective: str
    seed: int
    head: str
    mode: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    storage_ratio: float
    steps: int
    seconds: float
    classes: tuple[str, ...]
    cases: int
    groups: int
    baselines: Mapping[str, float]


@dataclass(frozen=True)
class RunFolder:
    """Describes a run as it lies on disk.

    Attributes:
        folder: the run's folder.
        config: what it was started with; empty where there is none.
        findings: finished stages by place, in order of place.
        unfinished: why, by place of each stage that was begun and not finished.
        planned: places where results were to be.
        results: fine-tuned models.
    """

    folder: Path
    config: Mapping[str, Any]
    findings: Mapping[str, Finding]
    unfinished: Mapping[str, str]
    planned: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def inputs(self) -> dict[str, str]:
        """Return the sha256 of everything the report is made from, by name."""
        config = _without_places(self.config)
        if isinstance(tuned := config.get("finetune"), Mapping):
            new = [name for name, value in LATER.items() if tuned.get(name, value) == value]
            config["finetune"] = {name: tuned[name] for name in tuned if name not in new}
        text = json.dumps([config, self.unfinished], sort_keys=True)
        found = {"config": hashlib.sha256(text.encode()).hexdigest()}
        return found | {place: one.digest for place, one in self.findings.items()}

    def of_stage(self, prefix: str) -> dict[str, Finding]:
        """Find the finished stages whose place lies under a folder."""
        return {
            place: one
            for place, one in self.findings.items()
            if place == prefix or place.startswith(f"{prefix}/")
        }

    def ancestry(self, place: str) -> list[Finding]:
        """List a finished stage and all stages whose work it needs.

        Each stands once.

        Pre-training takes mean and deviation of the pixels from the probe, for which none would
        have to be trained: that alone makes it no ancestor.
        """
        by_digest = {one.digest: one for one in self.findings.values()}
        found: dict[str, Finding] = {}
        waiting = [self.findings[place]]
        while waiting:
            one = waiting.pop()
            if one.place not in found:
                found[one.place] = one
                inputs = dict(one.manifest.inputs)
                if one.manifest.stage == "pretrain":
                    inputs.pop("probe", None)
                waiting += [by_digest[d] for d in inputs.values() if d in by_digest]
        return [found[name] for name in sorted(found)]

    def seconds(self, place: str) -> float:
        """Sum up what a finished stage and everything before it cost.

        Without compilation, and without what was done aside.
        """
        return math.fsum(one.manifest.seconds - one.manifest.aside for one in self.ancestry(place))

    def compile_seconds(self, place: str) -> float:
        """Sum up the compilation in a finished stage and in all before it."""
        return math.fsum(one.manifest.compile_seconds for one in self.ancestry(place))


def collect(run_folder: str | Path) -> RunFolder:
    """Read a run's folder.

    Raises:
        ValueError: it does not exist, holds no stage, or a file in it is damaged or of another
            version; one sentence.
    """
    folder = Path(run_folder)
    if not folder.is_dir():
        raise ValueError(f"run folder {folder} does not exist or is no folder")
    findings: dict[str, Finding] = {}
    unfinished: dict[str, str] = {}
    results = []
    for here in (one for part in PARTS for one in stages_in(folder, part)):
        place = here.relative_to(folder).as_posix()
        if not (here / MANIFEST).is_file():
            unfinished[place] = _reason(here)
            continue
        manifest = read_manifest(here)
        findings[place] = Finding(place, manifest, digest(manifest))
        if (here / RESULT).is_file():
            results.append(_result(folder, place, manifest))
    if not findings and not unfinished:
        raise ValueError(
            f"run folder {folder} holds no stage of a run (looked for {', '.join(PARTS)}); name "
            "the folder that python -m pretrain_jax pipeline wrote"
        )
    config = _config(folder / CONFIG)
    return RunFolder(folder, config, findings, unfinished, _planned(config), tuple(results))


def _config(path: Path) -> dict[str, Any]:
    """Read what a pipeline was started with.

    It is empty where there is none.
    """
    if not path.is_file():
        return {}
    try:
        return read_record(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; python -m pretrain_jax pipeline with the options of this run writes it again"
        ) from None


def _without_places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the places of data and weights out of a configuration.

    These may move.
    """
    return {
        name: _without_places(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name not in PLACES or isinstance(value, Mapping)
    }


def _planned(config: Mapping[str, Any]) -> tuple[str, ...]:
    """List the places where the results of a configuration are to lie."""
    if not (config.get("downstream") or config.get("demo")):
        return ()
    levels = config.get("levels") or [""]
    heads = [f"{head}-{mode}" for head, mode in config.get("heads", ())]
    scratch = [one for one in config.get("evaluations", ()) if one.endswith("-scratch")]
    names = ("objective", "method", "ratio", "seed")
    cells = [Cell(*(cell[name] for name in names)) for cell in config.get("cells", ())]
    runs = [(cell, heads) for cell in cells]
    runs += [(scratch_cell(seed), scratch) for seed in config.get("scratch_seeds", ())]
    return tuple(
        finetuned_place(cell, level, end) for cell, ends in runs for level in levels for end in ends
    )


def _reason(stage: Path) -> str:
    if (stage / FAILED).is_file():
        text = (stage / FAILED).read_text(encoding="utf-8", errors="replace").strip()
        return f"failed: {text.splitlines()[0] if text else 'no reason was left'}"
    return "begun, not finished"


def _result(folder: Path, place: str, manifest: Manifest) -> Result:
    path = output(folder / place, manifest, RESULT)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Result(
            place=place,
            dataset=str(record["dataset"]),
            method=str(record["method"]),
            percent=float(f"{100 * float(record['ratio']):g}"),  # as places have it
            objective=str(record["objective"]),
            seed=int(record["seed"]),
            head=str(record["head"]),
            mode=str(record["mode"]),
            metrics={name: _number(record[name]["value"]) for name in METRICS},
            intervals={
                name: (_number(record[name]["low"]), _number(record[name]["high"]))
                for name in METRICS
            },
            storage_ratio=_number(record["storage_ratio"]),
            steps=int(manifest.counts["steps"]),
            seconds=manifest.seconds,
            classes=tuple(str(one) for one in record["classes"]),
            cases=len(record["cases"]),
            groups=len({one["group"] or f"case {one['name']}" for one in record["cases"]}),
            baselines={
                str(name): _number(one["miou"]["value"])
                for name, one in record["baselines"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no result of fine-tuning: {error!r}") from None


def _number(value: Any) -> float:
    """Read a number.

    JSON has null where there is none.
    """
    return math.nan if value is None else float(value)
