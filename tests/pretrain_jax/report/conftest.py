"""A run's folder with numbers that are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardset.folder import digest, read_manifest
from hardset.listing import write_record
from pretrain_jax.report import write_report
from tests.pretrain_jax.records import note_output

# mIoU by (method, percent), a number a seed; None: begun, and not finished.
MIOU: dict[tuple[str, float], list[float | None]] = {
    ("all", 100): [0.70, 0.72, 0.71],
    ("random", 10): [0.60, 0.64, 0.62],
    ("random", 25): [0.66, 0.65, 0.67],
    ("meddel", 10): [0.61, None, 0.66],
    ("optidel", 10): [0.70, 0.71, 0.75],
    ("optidel", 25): [0.69, 0.70, 0.71],
    ("hard-images", 10): [0.63, 0.66, 0.66],
    ("random-patches", 10): [0.65, 0.68, 0.68],
}
# Seconds of the stages.
SECONDS = {
    "index": 2.0,
    "probe": 100.0,
    "proposals": 30.0,
    "scores/saliency": 40.0,
    "scores/images": 20.0,
    "selection": 3.0,
    "synthesis": 5.0,
    "pretrain": 200.0,
    "finetune": 50.0,
}
IMAGES = 60
FULL_BYTES = 1000


class Folder:
    """Writes stages as the pipeline leaves them.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stage(
        self,
        place: str,
        stage: str,
        seconds: float,
        inputs: dict[str, str],
        counts: dict[str, float],
        parameters: dict[str, Any] | None = None,
        seed: int | None = None,
        finished: bool = True,
        aside: float = 0.0,
    ) -> None:
        """A stage whose inputs are other places."""
        here = self.folder / place
        here.mkdir(parents=True, exist_ok=True)
        inputs = {name: self.digest(one) for name, one in inputs.items()}
        claim = {"stage": stage, "parameters": {}, "seed": seed, "inputs": inputs, "locations": {}}
        write_record(here / "stage.json", claim)
        if finished:
            record = {
                "stage": stage,
                "parameters": {"place": place, **(parameters or {})},
                "seed": seed,
                "inputs": inputs,
                "outputs": {},
                "counts": counts,
                "seconds": seconds,
                "versions": {"hardset": "0.1.0", "jax": "0.10.2"},
                "locations": {},
                "schema_version": 2,
                # Half of the work again, which is no part of any time.
                "compile_seconds": seconds / 2,
                "aside": aside,
                "local": {},
                "notes": [f"a note of {stage} <&>"],
            }
            write_record(here / "manifest.json", record)

    def digest(self, place: str) -> str:
        return digest(read_manifest(self.folder / place))

    def sheet(self, place: str) -> None:
        pixels = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(32, 48, 3)
        Image.fromarray(pixels).save(self.folder / place / "contact-sheet.png")


def whole_run(folder: Path) -> Path:
    """The run of MIOU, with a result that failed and one that nobody began."""
    run = Folder(folder)
    run.stage(
        "index", "index", SECONDS["index"], {}, {"images": IMAGES, "pixels": 2.5e6, "bytes": 1.25e6}
    )
    run.stage("leakage", "leakage", 1.0, {"index": "index"}, {"images": IMAGES, "test_cases": 12})
    probe = SECONDS["probe"] + 80.0
    run.stage("probe", "probe", probe, {"index": "index"}, {}, aside=80.0)
    saliency = {"index": "index"}
    run.stage("proposals/saliency", "propose", SECONDS["proposals"], saliency, {"patches": 400})
    for name, source in (("saliency", "proposals/saliency"), ("images", "index")):
        run.stage(
            f"scores/{name}",
            "score",
            SECONDS[f"scores/{name}"],
            {"source": source, "probe": "probe"},
            {"rank_correlation_mean": 0.875, "rank_correlation_min": 0.625},
        )
    run.sheet("proposals/saliency")
    sources = {
        "all": "index",
        "random": "index",
        "meddel": "scores/images",
        "hard-images": "scores/images",
        "optidel": "scores/saliency",
        "random-patches": "proposals/saliency",
    }
    for (method, percent), values in MIOU.items():
        name = f"{method}-{percent}"
        selected = {"source": sources[method]}
        run.stage(f"selections/{name}", "select", SECONDS["selection"], selected, {})
        counts = {
            "storage_ratio": percent / 100,
            "bytes": FULL_BYTES * percent / 200 if method != "all" else FULL_BYTES,
            "bytes_full": FULL_BYTES,
        }
        chosen = {"selection": f"selections/{name}"}
        run.stage(f"synthesised/{name}", "synthesise", SECONDS["synthesis"], chosen, counts)
        for seed, miou in enumerate(values):
            _model(run, method, percent, seed, miou)
    write_record(folder / "config.json", configuration())
    return folder


def configuration() -> dict[str, Any]:
    cells = [
        {"objective": "mae", "method": method, "ratio": percent / 100, "seed": seed}
        for method, percent in [*MIOU, ("infomax", 10)]
        for seed in range(3 if method != "infomax" else 1)
    ]
    return {
        "demo": True,
        "levels": [],
        "downstream": None,
        "cells": cells,
        "heads": [["dpt", "full"]],
        "evaluations": ["dpt-full"],
        "scratch_seeds": [],
    }


def _model(run: Folder, method: str, percent: float, seed: int, miou: float | None) -> None:
    place = f"mae/{method}-{percent}/seed-{seed}"
    synthesised = {"data": f"synthesised/{method}-{percent}", "probe": "probe"}
    run.stage(
        f"pretrained/{place}",
        "pretrain",
        SECONDS["pretrain"],
        synthesised,
        {"steps": 300},
        seed=seed,
        finished=miou is not None,
    )
    if miou is None:
        (run.folder / f"pretrained/{place}/failed.txt").write_text("loss is not finite at step 7\n")
        return
    here = f"finetuned/{place}/dpt-full"
    run.stage(
        here,
        "finetune",
        SECONDS["finetune"],
        {"pretrained": f"pretrained/{place}"},
        {"leaks": 0, "steps": 200},
        seed=seed,
    )
    scores = {
        name: {"value": miou + shift, "low": miou + shift - 0.05, "high": miou + shift + 0.05}
        for name, shift in (("miou", 0.0), ("dice", 0.1), ("boundary_f", -0.2))
    }
    result = {
        "dataset": "slices <T1>",
        "method": method,
        "ratio": percent / 100,
        "objective": "mae",
        "seed": seed,
        "head": "dpt",
        "mode": "full",
        "classes": ["background", "grey", "white"],
        **scores,
        "per_class": {},
        "cases": [{"name": f"case {k}", "group": "", "iou": []} for k in range(12)],
        "normdel": None,
        "storage_ratio": percent / 100,
        "baselines": {
            name: {"miou": {"value": miou, "low": 0.0, "high": 1.0}}
            for name, miou in (("threshold", 0.687), ("background", 0.25))
        },
    }
    (run.folder / here / "result.json").write_text(json.dumps(result))
    note_output(run.folder / here / "result.json")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The run of MIOU."""
    return whole_run(tmp_path / "run")


@pytest.fixture(scope="session")
def page_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the run of MIOU, written once."""
    folder = whole_run(tmp_path_factory.mktemp("page") / "run")
    write_report(folder, folder / "report")
    return (folder / "report/index.html").read_text()


@pytest.fixture
def writer() -> Callable[[Path], Folder]:
    """Makes a writer of stages."""
    return Folder
