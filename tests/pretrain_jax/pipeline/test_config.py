"""The configuration: which runs follow from it, and what it refuses."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain_jax.__main__ import main
from pretrain_jax.pipeline import PIPELINES, PipelineConfig, ScoreOptions, pipeline_preset
from pretrain_jax.pipeline.config import pipeline_to_json
from theory.command_line import run


def test_cells_of_the_reference() -> None:
    """Six methods; four ratios for each but the full set; three seeds: (1 + 4 x 5) x 3 runs."""
    cells = pipeline_preset("optidel_reference").cells()
    assert len(cells) == 63 == len(set(cells))
    assert [cell.selection for cell in cells[:4]] == ["all-100"] * 3 + ["random-5"]
    assert {cell.selection for cell in cells if cell.method == "optidel"} == {
        "optidel-5",
        "optidel-10",
        "optidel-25",
        "optidel-50",
    }


def test_the_demo_is_what_it_says() -> None:
    """Five methods, two ratios, three seeds and the full set thrice; one contrastive run."""
    config = pipeline_preset("optidel-demo")
    config.check()
    cells = config.cells()
    assert len(cells) == 5 * 2 * 3 + 3 + 1
    assert [cell.objective for cell in cells].count("simclr") == 1
    assert config.mae.train.steps is not None and config.mae.train.steps <= 300
    assert config.finetune.steps <= 200
    encoder = config.mae.train.model.encoder
    assert (encoder.size, encoder.patch_size) == ((64, 64), 8)
    assert (encoder.width, encoder.depth) == (96, 4)


def test_echo_lists_the_runs(config: PipelineConfig) -> None:
    record = json.loads(json.dumps(pipeline_to_json(config), default=str))
    assert record["cells"] == [
        {"objective": "mae", "method": "all", "ratio": 1.0, "seed": 0},
        {"objective": "mae", "method": "optidel-s", "ratio": 0.5, "seed": 0},
    ]
    assert record["heads"] == [["dpt", "full"]] and record["demo"] is False


def test_layouts(config: PipelineConfig) -> None:
    sets = dataclasses.replace(config, downstream=("kvasir-seg:data/kvasir", "c:/images"))
    assert sets.layouts() == [("kvasir-seg", "data/kvasir"), ("folder", "c:/images")]


Change = Callable[[PipelineConfig], PipelineConfig]
WRONG: dict[str, tuple[Change, str]] = {
    "no data": (lambda c: dataclasses.replace(c, data=""), "data is missing"),
    "method": (
        lambda c: dataclasses.replace(c, mae=dataclasses.replace(c.mae, methods=("best",))),
        r"mae.methods: 'best' is not one of all, random",
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
    "evaluation": (
        lambda c: dataclasses.replace(c, evaluations=("dpt-tuned",)),
        "'dpt-tuned' is not one of dpt-full",
    ),
    "sam without weights": (
        lambda c: dataclasses.replace(c, propose=dataclasses.replace(c.propose, proposer="sam")),
        "checkpoint",
    ),
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
    arguments += ["--mae.train.epochs", "None", "--mae.ratios", "0.1", "0.3", "--estimate"]
    (tmp_path / "a.png").write_bytes(b"")
    assert run(main, arguments) == 0
    assert "1 images" in capsys.readouterr().out
    assert run(main, [*arguments, "--mae.ratios", "2"]) == 2
    assert "mae.ratios" in capsys.readouterr().err
    assert run(main, ["pipeline", name, "--patch", "4"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "--patches" in told


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("probe", "pretrain", "pipeline"):
        assert run(main, [command, "--help"]) == 0
        assert "examples:" in capsys.readouterr().out
    assert run(main, ["probe", "--checkpoint", "x"]) == 2
    assert "must come first" in capsys.readouterr().err
