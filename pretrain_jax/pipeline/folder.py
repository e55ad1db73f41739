"""A pipeline's folder: which pipeline it holds, and where its reports lie."""

import json
from pathlib import Path

from hardset.datafile import write_text_atomic
from hardset.lock import LOCK
from pretrain_jax.pipeline.config import PipelineConfig, pipeline_to_json
from pretrain_jax.pipeline.recommendation import recommended_in
from pretrain_jax.report.collect import collect
from pretrain_jax.stages.manifest import CLAIM
from pretrain_jax.train.config import FREE_FIELDS, json_differences

__all__ = ["claimable", "report_folder", "write_echo"]

CONFIG_NAME = "config.json"
# What may change when a pipeline goes on: places, and lists that only add runs.
FREE = frozenset(
    {"out", "cells", "heads", "levels", "scratch_seeds", "evaluations"}
    | {f"{name}.{one}" for name in ("mae", "simclr") for one in ("methods", "ratios", "seeds")}
    | {f"{name}.train.{one}" for name in ("mae", "simclr") for one in FREE_FIELDS}
)


def claimable(config: PipelineConfig) -> Path:
    """The pipeline's folder, where it is new, empty or holds this pipeline; nothing is written.

    Raises:
        ValueError: it holds something else, or a pipeline that differs in more than added runs.
    """
    folder = Path(config.out)
    echo = folder / CONFIG_NAME
    wanted = json.loads(_echo(config, folder))
    if echo.is_file():
        try:
            there = json.loads(echo.read_text(encoding="utf-8"))
            differences = json_differences(wanted, there, FREE)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{echo} cannot be read: {error}; choose another --out") from None
        if differences:
            raise ValueError(
                f"{folder} holds a pipeline of another configuration: {'; '.join(differences)}; "
                "choose another --out"
            )
    elif folder.exists() and not (
        folder.is_dir() and all(one.name == LOCK for one in folder.iterdir())
    ):
        raise ValueError(f"{folder} exists and holds no pipeline; choose another --out")
    return folder


def write_echo(config: PipelineConfig, out: Path) -> None:
    """Write the file that says what the pipeline is."""
    write_text_atomic(out / CONFIG_NAME, _echo(config, out))


def report_folder(out: Path) -> Path:
    """Of the report on what there is now: a new one beside those from before runs were added."""
    inputs = collect(out).inputs
    page, number = out / "report", 1
    while (page / CLAIM).is_file():
        if json.loads((page / CLAIM).read_text(encoding="utf-8"))["inputs"] == inputs:
            break
        number += 1
        page = out / f"report-{number}"
    return page


def _echo(config: PipelineConfig, out: Path) -> str:
    values = pipeline_to_json(config, recommended_in(out))
    return json.dumps(values, indent=1, default=str, allow_nan=False) + "\n"
