"""The commands of the stages: one run from images to a set, and one sentence for each mistake."""

import json
from pathlib import Path
from typing import Any

import pytest

from hardset.cli import run
from pretrain_jax import TrainedModel
from pretrain_jax.__main__ import main
from pretrain_jax.data import find_images
from pretrain_jax.synthesis import margins
from tests.pretrain_jax.synthesis.conftest import write_images


@pytest.fixture
def trained_probe(trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(margins, "load_model", lambda _: trained)
    (tmp_path / "probe").mkdir()
    return tmp_path / "probe"


def test_from_images_to_a_set(
    trained_probe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "data", 10), tmp_path / "run"

    def done(*words: Any) -> str:
        assert run(main, [str(word) for word in words]) == 0
        return capsys.readouterr().out

    text = done("propose", out, "--data", images, "--coco", tmp_path / "boxes.json")
    assert f"in {tmp_path / 'boxes.json'}" in text
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert len(boxes["images"]) == 10
    assert all(one["area"] == one["bbox"][2] * one["bbox"][3] for one in boxes["annotations"])
    assert run(main, ["propose", str(out), "--coco", str(tmp_path / "boxes.json")]) == 2
    assert "boxes.json exists and is not replaced" in capsys.readouterr().err
    assert "run/proposals/saliency: propose done" in text
    assert "patches" in text
    assert "proposals/saliency/contact.png" in text
    done("propose", out, "--proposer", "random-crop", "--most", 6, "--least-side", 8)
    batch = ("--probe", trained_probe, "--masks", 3, "--batch-size", 16)
    for name in ("images", "saliency", "random-crop"):
        more = ("--features",) if name == "saliency" else ()
        assert "rank correlation min" in done("score", out, "--of", name, *batch, *more)
    assert (out / "scores" / "saliency" / "features.npy").is_file()
    done("select", out, "--method", "optidel-s", "--ratio", 0.2)
    done("select", out, "--method", "optidel-s", "--ratio", 0.2, "--rule", "window:lo=0.1")
    record = json.loads(done("select", out, "--method", "optidel", "--ratio", "0.2", "--json"))
    assert record["parameters"]["proposer"] == "saliency"
    assert record["counts"]["storage_ratio"] <= 0.2
    done("select", out, "--method", "all")
    done("select", out, "--method", "random", "--ratio", "0.4", "--storage", "bytes")
    names = {"all-100", "optidel-20", "optidel-s-20", "optidel-s-20-window-lo-0.1"}
    names |= {"random-40-bytes"}
    kept = sorted(path.name for path in (out / "selections").iterdir())
    assert run(main, ["select", str(out), "--method", "optidel", "--ratio", "1e-6"]) == 2
    assert "not one image of 4 patches fits" in capsys.readouterr().err
    assert sorted(path.name for path in (out / "selections").iterdir()) == kept
    assert {path.name for path in (out / "selections").iterdir()} == names
    for name in names:
        done("synthesise", out, name)
        assert len(find_images(out / "synthesised" / name / "data.txt")) >= 1
    again = done("synthesise", out, "all-100", "--json")
    assert json.loads(again)["counts"]["images"] == 10
    for stage in out.rglob("manifest.json"):
        assert (stage.parent / "contact.png").is_file()


def test_shards_of_several_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = write_images(tmp_path / "data", 6), str(tmp_path / "run")
    common = ["propose", out, "--data", str(images), "--shards", "2", "--shard"]
    for shard, expected in (("1", "index: this shard is done"), ("0", "saliency: this shard is"),
                            ("1", "saliency: propose done")):  # fmt: skip
        assert run(main, [*common, shard]) == 0
        assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["propose", "RUN"], "holds no index yet: name the images with --data"),
        (["propose", "RUN", "--data", "nowhere"], "image source nowhere does not exist"),
        (["propose", "RUN", "--proposer", "grid"], "--proposer = 'grid' is not one of saliency"),
        (["propose", "RUN", "--proposer", "sam"], "put sam_vit_b_01ec64.pth"),
        (["propose", "RUN", "--sam-weights", "no.pth"], "SAM weights no.pth do not exist"),
        (
            ["propose", "RUN", "--proposer", "saliency", "--sam-weights", "no.pth"],
            "--sam-weights is no option of the proposer saliency",
        ),
        (["propose", "RUN", "--proposer", "sam", "--most", "3"], "--most is no option of"),
        (["propose", "RUN", "--proposer", "random-crop", "--max-area", "1"], "--max-area is no"),
        (["propose", "RUN", "--max-area", "2"], "max_area = 2 is outside"),
        (["score", "RUN"], "stage propose or index in RUN/proposals/saliency does not exist"),
        (["select", "RUN", "--method", "optidel"], "--ratio is missing"),
        (["select", "RUN", "--method", "optidel", "--ratio", "x"], "is not a share of the"),
        (["select", "RUN", "--method", "optidel", "--ratio", "toy-model"], "needs --alpha-total"),
        (
            ["select", "RUN", "--method", "optidel", "--ratio", "recommended"],
            "run python -m pretrain_jax",
        ),
        (["select", "RUN", "--method", "optidel", "--ratio", "0.1"], "run python -m pretrain_jax"),
        (["select", "RUN", "--ratio", "0.1"], "--method is missing"),
        (["synthesise", "RUN", "optidel-10"], "stage select in RUN/selections/optidel-10 does not"),
    ],
)
def test_mistakes(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(main, words) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert message in complaint
    assert complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
