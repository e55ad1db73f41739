"""Cross validation by groups: what is tested where, the pooled record, and resuming."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hardset.cli import run
from hardset.folder import digest, read_manifest
from hardset.verify import verify
from pretrain_jax.__main__ import main
from pretrain_jax.segmentation import (
    Case,
    SegmentationSet,
    confusion,
    cross_validate,
    iou,
    load_segmenter,
    read_case,
    read_pair,
    split,
)
from pretrain_jax.segmentation.dataset import fold_of
from tests.pretrain_jax.segmentation.rectangles import CONFIG, write_set

ROOT = Path(__file__).parents[3]
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from pretrain_jax.segmentation import cross_validate, read_pair
from pretrain_jax.segmentation.dataset import TrainingExamples
from tests.pretrain_jax.segmentation.test_folds import SHORT

taken, calls = TrainingExamples.batch, []

def batch(self, step):
    calls.append(step)
    if calls.count(7) == 2:  # in the second fold
        os.kill(os.getpid(), signal.SIGKILL)
    return taken(self, step)

TrainingExamples.batch = batch
cross_validate(None, read_pair(Path(sys.argv[1])), sys.argv[2], folds=3, config=SHORT)
"""
SHORT = dataclasses.replace(CONFIG, steps=8, checkpoint_every=4)


def patients(sizes: list[list[int]]) -> SegmentationSet:
    """Cases named by patient, series and slice; entry [p][s] has the slices of a series."""
    cases = tuple(
        Case(f"{p}/{s}/{k}", Path("i"), Path("m"), group=f"patient {p}")
        for p, series in enumerate(sizes)
        for s, count in enumerate(series)
        for k in range(count)
    )
    return SegmentationSet("series", ("background", "organ"), "classes", cases)


def test_patients_of_several_series_stay_on_one_side() -> None:
    rng = np.random.default_rng(0)
    sizes = [rng.integers(1, 9, rng.integers(1, 4)).tolist() for _ in range(11)]
    dataset = patients(sizes)
    tested: Counter[str] = Counter()
    counts = []
    for fold in range(4):
        training, test = fold_of(dataset, fold, 4, seed=5)
        assert not {c.group for c in training.cases} & {c.group for c in test.cases}
        assert len(training) + len(test) == len(dataset)
        tested.update(case.name for case in test.cases)
        counts.append(len(test))
    assert set(tested.values()) == {1} and len(tested) == len(dataset)
    # Each group goes to the smallest fold: they differ by less than the largest group.
    assert max(counts) - min(counts) < max(map(sum, sizes))
    assert fold_of(dataset, 0, 4, seed=5) != fold_of(dataset, 0, 4, seed=6)
    for seed in range(10):
        training, test = split(dataset, test_share=0.3, seed=seed)
        assert not {c.group for c in training.cases} & {c.group for c in test.cases}
    with pytest.raises(ValueError, match=r"folds = 12: .* has 11 group"):
        fold_of(dataset, 0, 12)
    with pytest.raises(ValueError, match="fold = 4"):
        fold_of(dataset, 4, 4)


def test_the_pooled_scores_and_a_killed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in the second of three folds; the first one is not done again."""
    data = tmp_path / "data"
    write_set(data)
    rows = [f"{k},patient {k // 2}" for k in range(10)]
    (data / "cases.csv").write_text("\n".join(["name,group", *rows, ""]))
    out = tmp_path / "out"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(data), str(out)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    first = out / "fold-0" / "model.safetensors"
    written = first.stat().st_mtime_ns
    assert not (out / "fold-1" / "manifest.json").exists()
    dataset = read_pair(data)
    manifest = cross_validate(None, dataset, out, folds=3, config=SHORT)
    assert first.stat().st_mtime_ns == written
    record = json.loads((out / "result.json").read_text())
    # Pooled by hand: each case by the model that has not seen its patient.
    total, seen = np.zeros((2, 2), np.int64), []
    for fold in range(3):
        own = json.loads((out / f"fold-{fold}" / "result.json").read_text())
        assert own["miou"]["value"] == record["folds"][fold]["miou"]
        segmenter = load_segmenter(out / f"fold-{fold}")
        for case in dataset.cases:
            if case.name in {one["name"] for one in own["cases"]}:
                pixels, truth = read_case(dataset, case)
                (mask,) = segmenter.predict([pixels], batch_size=4)
                total += confusion(mask, truth, 2)
                seen.append(case.name)
    assert sorted(seen) == sorted(case.name for case in dataset.cases)
    assert record["miou"]["value"] == pytest.approx(iou(total).mean(), abs=1e-12)
    assert [one["name"] for one in record["cases"]] == [case.name for case in dataset.cases]
    assert record["groups"] == 5 and "not to be trusted" in record["interval_note"]
    assert record["baselines"]["threshold"]["miou"]["value"] > 0.9
    assert manifest.counts["folds"] == 3 and manifest.counts["test_cases"] == 10
    checked = verify([out])
    assert checked.passed and checked.counts["not listed"] == 0
    # A second time nothing is done.
    assert cross_validate(None, dataset, out, folds=3, config=SHORT) == manifest
    assert digest(read_manifest(out)) == digest(manifest)
    with pytest.raises(ValueError, match=r"holds the models of several folds; name one"):
        load_segmenter(out)
    told = ["predict", str(data / "images"), "--model", str(out), "--out", str(tmp_path / "p")]
    assert run(main, told) == 2
    assert "holds the models of several folds" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"folds = 3, now parameters\.folds = 2"):
        cross_validate(None, dataset, out, folds=2, config=SHORT)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--folds", "1"], "folds = 1"),
        (["--folds", "11"], "has 10 group(s)"),
        (["--ignore-split"], "with --folds only"),
        (["--folds", "2"], "has a published split"),
    ],
)
def test_bad_commands(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_set(data)
    if "published" in complaint:
        rows = [f"{k},{'test' if k < 3 else 'train'}" for k in range(10)]
        (data / "cases.csv").write_text("\n".join(["name,part", *rows, ""]))
    command = ["finetune", str(data), "demo", "--mode", "scratch", "--out", str(out), *options]
    assert run(main, command) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not out.exists()
