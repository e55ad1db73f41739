"""The configuration: which runs follow from it, and what it refuses."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hardset.cli import run
from hardset.listing import write_record
from pretrain_jax.__main__ import main
from pretrain_jax.pipeline import (
    PIPELINES,
    PipelineConfig,
    ProbeOptions,
    ScoreOptions,
    runner,
)
from pretrain_jax.pipeline.config import RatioName, pipeline_to_json
from pretrain_jax.synthesis import Sam


def test_cells_of_the_reference() -> None:
    """Six methods; four ratios for each but the full set; three seeds: (1 + 4 x 5) x 3 runs."""
    cells = PIPELINES["optidel_reference"].cells()
    assert len(cells) == 63 == len(set(cells))
    assert [cell.name for cell in cells[:4]] == ["all-100"] * 3 + ["random-5"]
    assert {cell.selection for cell in cells if cell.method == "optidel"} == {
        "optidel-5",
        "optidel-10",
        "optidel-25",
        "optidel-50",
    }


def test_the_demo_is_what_it_says() -> None:
    """Five methods at two ratios, two at one and the full set, thrice; one contrastive run."""
    config = PIPELINES["optidel-demo"]
    config.check()
    cells = config.cells()
    assert len(cells) == (5 * 2 + 2 + 1) * 3 + 1
    assert [cell.objective for cell in cells].count("simclr") == 1
    assert config.mae.train.steps is not None and config.mae.train.steps <= 300
    assert config.finetune.steps <= 200
    encoder = config.mae.train.model.encoder
    assert (encoder.size, encoder.patch_size) == ((64, 64), 8)
    assert (encoder.width, encoder.depth) == (96, 4)


def test_echo_lists_the_runs(config: PipelineConfig) -> None:
    record = json.loads(json.dumps(pipeline_to_json(config), default=str))
    assert record["cells"] == [
        {"objective": "mae", "method": "all", "ratio": 1.0, "seed": 0, "draw": None},
        {"objective": "mae", "method": "optidel-s", "ratio": 0.5, "seed": 0, "draw": 0},
    ]
    assert record["heads"] == [["dpt", "full"]] and record["demo"] is False


def test_configuration_of_version_0_1(config: PipelineConfig, tmp_path: Path) -> None:
    """It called weights and skip_at_most otherwise, and knew no precision of fine-tuning."""
    given = ProbeOptions(weights=str(tmp_path / "mae.pth"))
    config = dataclasses.replace(config, probe=given, out=str(tmp_path / "out"))
    record = json.loads(json.dumps(runner.claim_of(config).record))
    for part in (record["probe"], record["propose"]["sam"]):
        part["checkpoint"] = part.pop("weights")
    for part in (record["mae"]["train"]["data"], record["simclr"]["train"]["data"]):
        part["max_skipped_share"] = part.pop("skip_at_most")
    del record["finetune"]["precision"]
    (tmp_path / "out").mkdir()
    write_record(tmp_path / "out/config.json", record)
    assert runner.claim_of(config).check() == record
    other = dataclasses.replace(config, probe=ProbeOptions(halves=True))
    with pytest.raises(ValueError, match=r"probe\.halves = True here and False there"):
        runner.claim_of(other).check()


def test_methods_that_draw_have_a_set_for_every_seed(config: PipelineConfig) -> None:
    methods = ("all", "random", "meddel", "infomax", "hard-images", "optidel", "optidel-s")
    trials = dataclasses.replace(
        config.mae, methods=(*methods, "random-patches"), ratios=(0.1,), seeds=(4, 7)
    )
    wide = dataclasses.replace(config, mae=trials)
    sets = {cell.selection for cell in wide.cells()}
    fixed = {"all-100", "meddel-10", "infomax-10", "hard-images-10", "optidel-10"}
    drawn = {"random-10", "optidel-s-10", "random-patches-10"}
    assert sets == fixed | {f"{name}/seed-{seed}" for name in drawn for seed in (4, 7)}
    assert wide.proposals() == [("saliency", None), ("random-crop", 4), ("random-crop", 7)]
    once = dataclasses.replace(wide, draws="once")
    assert {cell.selection for cell in once.cells()} == fixed | drawn
    assert once.proposals() == [("saliency", None), ("random-crop", None)]


@pytest.mark.parametrize("name", ["recommended", "toy-model"])
def test_a_ratio_of_a_name_is_a_number_once_it_is_known(
    name: RatioName, config: PipelineConfig
) -> None:
    """Its runs are those of the number, each once where the number is listed, too."""
    trials = dataclasses.replace(config.mae, ratios=(0.5, name))
    open_ended = dataclasses.replace(config, mae=trials)
    names = [cell.name for cell in open_ended.cells()]
    assert names == ["all-100", "optidel-s-50"]
    assert [cell.name for cell in open_ended.cells({name: 0.123})] == [*names, "optidel-s-12.3"]
    assert [cell.name for cell in open_ended.cells({name: 0.5})] == names
    assert pipeline_to_json(open_ended, {name: 0.123})["cells"][2]["ratio"] == 0.123
    assert open_ended.has_ratio(name)
    dataclasses.replace(open_ended, probe=ProbeOptions(halves=True)).check()


def test_what_named_ratios_need(config: PipelineConfig) -> None:
    """The tested one reads features of whole images, the theory's two more probes."""
    assert not config.scores_images()
    tested = dataclasses.replace(config.mae, ratios=("recommended",))
    tested_alone = dataclasses.replace(config, mae=tested)
    tested_alone.check()
    assert tested_alone.scores_images()
    toy = dataclasses.replace(config.mae, ratios=("toy-model",))
    with pytest.raises(ValueError, match=r"'toy-model' .* set probe\.halves"):
        dataclasses.replace(config, mae=toy).check()


def test_a_method_at_a_ratio_of_its_own(config: PipelineConfig) -> None:
    methods = ("random", "hard-images@0.25", "random-patches@0.3", "all")
    trials = dataclasses.replace(config.mae, methods=methods, ratios=(0.1, 0.25))
    wide = dataclasses.replace(config, mae=trials)
    wide.check()
    names = [cell.name for cell in wide.cells()]
    assert names == ["all-100", "random-10", "random-25", "hard-images-25", "random-patches-30"]
    for wrong, message in (("random@x", "neither a method nor"), ("random@2", "= 2 is outside")):
        trials = dataclasses.replace(config.mae, methods=(wrong,))
        with pytest.raises(ValueError, match=f"mae.methods.*{message}"):
            dataclasses.replace(config, mae=trials).check()


def test_a_checkpoint_of_sam_chooses_sam(config: PipelineConfig) -> None:
    """Without one patches are salient regions."""
    trials = dataclasses.replace(config.mae, methods=("optidel",))
    plain = dataclasses.replace(config, mae=trials)
    assert plain.proposals() == [("saliency", None)]
    weights = dataclasses.replace(config.propose, sam=Sam(Path("sam.pth")))
    assert dataclasses.replace(plain, propose=weights).proposals() == [("sam", None)]


def test_storage_reaches_the_selection(
    config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(runner, "select", lambda *_, storage, **__: asked.append(storage))
    for storage in ("pixels", "bytes"):
        wide = dataclasses.replace(config, storage=storage)
        chosen = runner.tasks(wide, Path("out"), [], False)
        for task in chosen:
            if task.stage == "select":
                task.fill()
    assert asked == ["pixels"] * 2 + ["bytes"] * 2


def test_nothing_is_printed_where_nothing_can_be_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    words = ["pipeline", "optidel_reference", "--data", str(tmp_path / "images")]
    words += ["--downstream", str(tmp_path / "missing"), "--out", str(tmp_path / "out")]
    assert run(main, words) == 2
    told = capsys.readouterr()
    assert told.out == "" and "missing" in told.err
    assert not (tmp_path / "out").exists()


def test_layouts(config: PipelineConfig) -> None:
    named = ("kvasir-seg:data/kvasir", "folder:data/own", "c:/images")
    sets = dataclasses.replace(config, downstream=named)
    assert sets.layouts() == [
        ("kvasir-seg", "data/kvasir"),
        ("folder", "data/own"),
        ("folder", "c:/images"),
    ]


Change = Callable[[PipelineConfig], PipelineConfig]
WRONG: dict[str, tuple[Change, str]] = {
    "no data": (lambda c: dataclasses.replace(c, data=""), "data is missing"),
    "method": (
        lambda c: dataclasses.replace(c, mae=dataclasses.replace(c.mae, methods=("best",))),
        r"mae.methods = 'best' is not one of all, random",
    ),
    "ratio": (
        lambda c: dataclasses.replace(c, mae=dataclasses.replace(c.mae, ratios=(0.0,))),
        r"mae.ratios",
    ),
    "seed twice": (
        lambda c: dataclasses.replace(c, mae=dataclasses.replace(c.mae, seeds=(1, 1))),
        r"mae.seeds = \(1, 1\) has an entry twice",
    ),
    "model": (
        lambda c: dataclasses.replace(c, mae=dataclasses.replace(c.simclr, seeds=(0,))),
        "mae.train.model is a SimCLRConfig",
    ),
    "a head that does not fit": (
        lambda c: dataclasses.replace(c, downstream=("polyps",)),
        r"mae\.train\.model: head = 'dpt' needs an encoder of 4 blocks, this one has 1",
    ),
    "draws": (lambda c: dataclasses.replace(c, draws="twice"), "draws = 'twice' is not one of"),
    "evaluation": (
        lambda c: dataclasses.replace(c, evaluations=("dpt-tuned",)),
        "'dpt-tuned' is not one of dpt-full",
    ),
    "sam without weights": (
        lambda c: dataclasses.replace(c, propose=dataclasses.replace(c.propose, proposer="sam")),
        "weights",
    ),
    "weights of sam that are not there": (
        lambda c: dataclasses.replace(
            c, propose=dataclasses.replace(c.propose, sam=Sam(Path("nowhere.pth")))
        ),
        r"SAM weights nowhere\.pth do not exist",
    ),
    "weights of sam for another proposer": (
        lambda c: dataclasses.replace(
            c,
            propose=dataclasses.replace(
                c.propose, proposer="saliency", sam=Sam(Path("nowhere.pth"))
            ),
        ),
        r"propose\.sam\.weights = nowhere\.pth is of no use to .* = saliency",
    ),
    "storage": (lambda c: dataclasses.replace(c, storage="files"), "storage = 'files' is not one"),
    "a field of a run": (
        lambda c: dataclasses.replace(
            c,
            mae=dataclasses.replace(c.mae, train=dataclasses.replace(c.mae.train, batch_size=0)),
        ),
        r"mae\.train\.batch_size = 0 is outside the valid range \[1, ",
    ),
    "a field of fine-tuning": (
        lambda c: dataclasses.replace(c, finetune=dataclasses.replace(c.finetune, steps=0)),
        r"finetune\.steps = 0 is outside",
    ),
    "patches": (lambda c: dataclasses.replace(c, patches=5), "patches = 5 is not a square"),
    "masks": (lambda c: dataclasses.replace(c, score=ScoreOptions(masks=0)), "score.masks = 0"),
    "protocol": (
        lambda c: dataclasses.replace(
            c,
            protocol="paper",
            mae=dataclasses.replace(
                c.mae, train=dataclasses.replace(c.mae.train, steps=3, epochs=None)
            ),
        ),
        "protocol = paper gives every run the same epochs",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refusals_name_the_field(name: str, config: PipelineConfig) -> None:
    change, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        change(config).check()


@pytest.mark.parametrize("name", PIPELINES)
def test_every_field_is_an_option(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["pipeline", name, "--data", str(tmp_path), "--mae.train.steps", "7"]
    arguments += ["--mae.train.epochs", "None", "--mae.ratios", "0.1", "recommended", "toy-model"]
    arguments += ["--probe.halves", "--estimate"]
    (tmp_path / "a.png").write_bytes(b"")
    assert run(main, arguments) == 0
    assert "1 images" in capsys.readouterr().out
    assert run(main, [*arguments, "--mae.ratios", "2"]) == 2
    assert "mae.ratios" in capsys.readouterr().err
    nested = "mae.train.model.encoder"
    assert run(main, ["pipeline", name, f"--{nested}.patch-size", "13"]) == 2
    assert f"error: {nested}.image_size = " in capsys.readouterr().err
    assert run(main, ["pipeline", name, "--patch", "4"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "--patches" in told


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("probe", "pretrain", "pipeline"):
        assert run(main, [command, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out
    assert run(main, ["probe", "--weights", "x"]) == 2
    assert "must come first" in capsys.readouterr().err
