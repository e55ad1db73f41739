"""Means, spreads, differences and costs against the standard library and sums by hand."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain_jax.report.collect import collect
from pretrain_jax.report.statistics import (
    Difference,
    Row,
    ablation,
    missing_results,
    rows_of,
    settings_of,
    time_to_equal,
)
from tests.pretrain_jax.records import edit_output, edit_record


@pytest.fixture
def rows(run_folder: Path) -> dict[tuple[str, float], Row]:
    run = collect(run_folder)
    (setting,) = settings_of(run)
    return {(row.method, row.percent): row for row in rows_of(run, setting)}


def test_means_and_spreads(rows: dict[tuple[str, float], Row]) -> None:
    """Dice and boundary F of the run are mIoU shifted by constants."""
    for (method, percent), values in {
        ("optidel", 10): [0.70, 0.71, 0.75],
        ("meddel", 10): [0.61, 0.66],
    }.items():
        row = rows[method, percent]
        for name, shift in (("miou", 0.0), ("dice", 0.1), ("boundary_f", -0.2)):
            assert row.scores[name].value == pytest.approx(statistics.mean(values) + shift)
            assert row.scores[name].sd == pytest.approx(statistics.stdev(values))
            assert row.scores[name].count == len(values)
        normdels = [1 / (1 + math.exp(-value * math.exp(-percent / 100))) for value in values]
        assert row.scores["normdel"].value == pytest.approx(statistics.mean(normdels))
        assert row.scores["normdel"].sd == pytest.approx(statistics.stdev(normdels))
        assert row.pixels == pytest.approx(percent / 100)
        assert row.stored == pytest.approx(percent / 200)


def test_differences_are_paired_by_seed(rows: dict[tuple[str, float], Row]) -> None:
    """At 10 %: OptiDEL less random is .10, .07, .13; MedDEL has seeds 0 and 2: .01, .04."""
    gain = rows["optidel", 10].gains["miou"]
    assert (gain.value, gain.pairs) == (pytest.approx(0.10), 3)
    assert gain.stderr == pytest.approx(0.03 / math.sqrt(3))
    gain = rows["meddel", 10].gains["dice"]
    assert (gain.value, gain.pairs) == (pytest.approx(0.025), 2)
    assert gain.stderr == pytest.approx(0.015)
    for key in (("random", 10), ("all", 100), ("infomax", 10)):
        assert rows[key].gains["miou"].pairs == 0
        assert math.isnan(rows[key].gains["miou"].value)


def test_differences_beyond_chance() -> None:
    """Student's t of 95 %, two-sided, with two degrees of freedom, as tables print it: 4.303."""
    assert Difference(4.31, 1.0, 3).is_resolved and Difference(-4.31, 1.0, 3).is_resolved
    assert not Difference(4.29, 1.0, 3).is_resolved
    assert not Difference(9.0, math.nan, 1).is_resolved


def test_order_of_rows(rows: dict[tuple[str, float], Row]) -> None:
    ten = ["random", "meddel", "infomax", "optidel", "hard-images", "random-patches"]
    assert list(rows) == [
        *((method, 10.0) for method in ten),
        ("random", 25.0),
        ("optidel", 25.0),
        ("all", 100.0),
    ]


def test_what_is_missing(run_folder: Path, rows: dict[tuple[str, float], Row]) -> None:
    found = [
        (m.cell.method, m.cell.percent, m.cell.seed, m.reason)
        for m in missing_results(collect(run_folder))
    ]
    assert found == [
        ("infomax", 10.0, 0, "missing"),
        ("meddel", 10.0, 1, "pre-training failed: loss is not finite at step 7"),
    ]
    assert rows["meddel", 10].missing == {1: found[1][3]}
    assert rows["infomax", 10].missing == {0: "missing"}
    assert rows["infomax", 10].scores["miou"].count == 0


def test_cost_counts_what_a_method_uses(rows: dict[tuple[str, float], Row]) -> None:
    """index 2, selection 3, synthesis 5, pre-training 200, fine-tuning 50: 260 for all; the probe
    100 (180 with its halves), proposals 30, margins of patches 40, of images 20 where used."""
    totals = {method: row.total for (method, _), row in rows.items()}
    assert totals.pop("infomax") != totals["random"]  # NaN: nothing was run
    assert totals == {
        "random": 260.0,
        "all": 260.0,
        "meddel": 260.0 + 100 + 20,
        "hard-images": 260.0 + 100 + 20,
        "optidel": 260.0 + 100 + 30 + 40,
        "random-patches": 260.0 + 30,
    }
    row = rows["optidel", 25]
    assert (row.steps, row.pretraining, row.finetuning) == (300.0, 200.0, 50.0)


def test_time_to_equal_accuracy(rows: dict[tuple[str, float], Row]) -> None:
    """All data reach .71: OptiDEL does at 10 % (.72), not at 25 % (.70); the others do not."""
    found = time_to_equal(list(rows.values()))
    assert found.pop("optidel") == 430.0
    assert found.pop("all") == 260.0
    assert set(found) == {
        "random",
        "meddel",
        "hard-images",
        "random-patches",
    }  # no InfoMax: not run
    assert all(math.isnan(value) for value in found.values())
    assert time_to_equal([row for row in rows.values() if row.method != "all"]) == {}


def test_two_by_two(rows: dict[tuple[str, float], Row]) -> None:
    """By hand, points of mIoU at seeds 0, 1, 2: hard adds (3 + 5)/2, (2 + 3)/2, (4 + 7)/2; patches
    add (5 + 7)/2, (4 + 5)/2, (6 + 9)/2; the interaction is 2, 1, 3."""
    (found,) = ablation(list(rows.values()))
    assert found.percent == 10
    assert found.cells["hard", "whole images"].value == pytest.approx(0.65)
    assert found.cells["random", "stitched patches"].value == pytest.approx(0.67)
    for effect, values in (
        (found.select, [0.04, 0.025, 0.055]),
        (found.synthesise, [0.06, 0.045, 0.075]),
        (found.interaction, [0.02, 0.01, 0.03]),
    ):
        assert effect.value == pytest.approx(statistics.mean(values))
        assert effect.stderr == pytest.approx(statistics.stdev(values) / math.sqrt(3))
        assert effect.pairs == 3


def test_no_ablation_where_a_method_is_missing(rows: dict[tuple[str, float], Row]) -> None:
    assert ablation([row for row in rows.values() if row.method != "hard-images"]) == []


def test_probe_of_pixel_statistics_is_no_cost(tmp_path: Path, writer: Callable) -> None:
    """Every pre-training takes mean and deviation from the probe; its cost is not theirs."""
    run = writer(tmp_path)
    run.stage("probe", "probe", 100.0, {}, {})
    run.stage("pretrained/mae/all-100/seed-0", "pretrain", 7.0, {"probe": "probe"}, {})
    run.stage("scores/images", "score", 1.0, {"probe": "probe"}, {})
    found = collect(tmp_path)
    assert found.seconds("pretrained/mae/all-100/seed-0") == 7.0
    assert found.seconds("scores/images") == 101.0


def test_planned_places(run_folder: Path) -> None:
    """Two data sets, two ways to evaluate, and training from scratch with one head."""
    edit_record(
        run_folder / "config.json",
        levels=["ETIS", "CVC-300"],
        heads=[["dpt", "full"], ["linear", "frozen"]],
        evaluations=["dpt-full", "linear-frozen", "dpt-scratch"],
        cells=[{"objective": "mae", "method": "infomax", "ratio": 0.125, "seed": 4}],
        scratch_seeds=[4],
    )
    assert set(collect(run_folder).planned) == {
        "finetuned/mae/infomax-12.5/seed-4/ETIS/dpt-full",
        "finetuned/mae/infomax-12.5/seed-4/ETIS/linear-frozen",
        "finetuned/mae/infomax-12.5/seed-4/CVC-300/dpt-full",
        "finetuned/mae/infomax-12.5/seed-4/CVC-300/linear-frozen",
        "finetuned/none/scratch-0/seed-4/ETIS/dpt-scratch",
        "finetuned/none/scratch-0/seed-4/CVC-300/dpt-scratch",
    }
    edit_record(run_folder / "config.json", demo=False, downstream=[])
    assert collect(run_folder).planned == ()


def test_an_earlier_version_s_run_is_the_same(run_folder: Path) -> None:
    """A report of version 0.1 stays the run's own, also once the pipeline has gone on."""
    options = {"probe": {"checkpoint": None, "steps": 3}, "finetune": {"steps": 10}}
    edit_record(run_folder / "config.json", **options)
    before = collect(run_folder).inputs
    today = {"devices": 1, "fsdp": 1, "keep_checkpoints": 2, "log_every": 50}
    today |= {"peak_flops": None, "precision": "float32", "scan_steps": 1}
    options = {"probe": {"weights": None, "steps": 3}, "finetune": {"steps": 10, **today}}
    edit_record(run_folder / "config.json", **options)
    assert collect(run_folder).inputs == before
    options["finetune"]["precision"] = "bfloat16"
    edit_record(run_folder / "config.json", **options)
    assert collect(run_folder).inputs != before


def test_refused_folders(tmp_path: Path, run_folder: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        collect(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no stage of a run"):
        collect(tmp_path / "empty")
    edit_output(run_folder / "finetuned/mae/all-100/seed-0/dpt-full/result.json", miou=None)
    with pytest.raises(ValueError, match=r"result\.json is no result of fine-tuning"):
        collect(run_folder)
    edit_record(run_folder / "index/manifest.json", schema_version=3)
    with pytest.raises(ValueError, match="schema version 3; this version reads up to 2"):
        collect(run_folder)
