"""The command line: a run from start to picture, and one sentence for everything that is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run
from pretrain_jax.__main__ import main

SMALL = [
    *("--model.encoder.image-size", "8", "--model.encoder.patch-size", "2"),
    *("--model.encoder.width", "8", "--model.encoder.depth", "1", "--model.encoder.heads", "2"),
    *("--model.decoder-width", "8", "--model.decoder-depth", "1", "--model.decoder-heads", "2"),
    *("--batch-size", "4", "--data.workers", "0", "--data.validation-share", "0.3"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that ends with exit code 2."""
    capsys.readouterr()
    assert run(main, arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") and "Traceback" not in told.err
    return told.err


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def train(images: Path, out: Path, *options: str) -> list[str]:
    return [
        *("run", "mae_vit_tiny_cpu", *SMALL, "--steps", "4", "--out", str(out)),
        *("--data.path", str(images), *options),
    ]


def test_run_and_reconstruct(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(main, train(images, out, "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"] == 4 and [each["step"] for each in report["validation"]] == [0, 4]
    assert size_of(report["picture"]) == (30, 20)  # two validation images
    assert json.loads((out / "config.json").read_text())["steps"] == 4

    assert run(main, train(images, out)) == 0
    assert "all 4 steps were done before" in capsys.readouterr().out

    picture = tmp_path / "picture.png"
    arguments = ["reconstruct", str(out), str(images / "0.png"), "--out", str(picture)]
    assert run(main, arguments) == 0
    # Three columns and one row of 8 pixels with a gap of 2.
    assert size_of(picture) == (30, 10)
    assert "exists and is not replaced" in fails(arguments, capsys)

    told = fails(train(images, out, "--model.mask-ratio", "0.5"), capsys)
    assert "another configuration: model.mask_ratio = 0.5 here and 0.75 there" in told
    told = fails(["reconstruct", str(images), "x.png", "--out", str(tmp_path / "p.png")], capsys)
    assert "holds no checkpoint" in told

    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config)[:50])
    assert run(main, train(images, out)) == 0
    told = capsys.readouterr()
    assert told.err.count("config.json holds no checksum") == 1
    assert "what the checkpoint of step 4 tells is taken" in told.err
    assert "all 4 steps were done before" in told.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data.path", "/missing"], "image source /missing does not exist"),
        (["--data.path", "{empty}"], "is empty"),
        (["--data.crop", "none"], "is 9 x 12 pixels and the model takes 8 x 8"),
        (["--model.encoder.patch-size", "3"], "image_size = 8 is not divisible by patch_size = 3"),
        (["--data.path", "{nan}", "--data.validation", "{images}"], "nan.npy holds nan at row 1"),
        (["--devices", "3"], "devices = 3 is outside the valid range [1, 1]"),
        (["--accumulation", "3"], "must be a multiple of 3"),
        (["--precision", "float64"], "JAX_ENABLE_X64=1"),
        (["--nonsense", "1"], "--nonsense"),
        (["--steps", "many"], "--steps"),
        (["--data.skip-at-most", "0", "--data.path", "{cut}"], "cut.png cannot be decoded"),
        (["--out", "{images}"], "lies inside the image source"),
        (["--out", "{images}/run"], "lies inside the image source"),
        (["--out", "{empty}/../images"], "lies inside the image source"),
        (["--out", "{cut}"], "exists and holds no run"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str],
    sentence: str,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nan").mkdir()
    pixels = np.full((9, 9, 3), 0.5, np.float32)
    pixels[1, 2] = np.nan
    np.save(tmp_path / "nan" / "nan.npy", pixels)
    (tmp_path / "cut").mkdir()
    for file in images.iterdir():
        (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cut" / "cut.png").write_bytes((images / "0.png").read_bytes()[:60])
    before = sorted(images.iterdir())
    named = {name: tmp_path / name for name in ("empty", "images", "nan", "cut")}
    filled = [option.format(**named) for option in options]
    assert sentence in fails(train(images, tmp_path / "run", *filled), capsys)
    assert sorted(images.iterdir()) == before


def test_a_batch_that_devices_do_not_divide() -> None:
    """With more devices than one: the check itself, on the shape of a mesh."""
    from jax.sharding import AbstractMesh, AxisType

    from pretrain_jax.train.step import check_batch

    mesh = AbstractMesh((8, 1), ("data", "fsdp"), axis_types=(AxisType.Auto, AxisType.Auto))
    with pytest.raises(ValueError, match="batch_size = 20 cannot be divided over 8 devices"):
        check_batch(20, 1, mesh)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["walk"], "'walk' is no command: one of pipeline, report, benchmark-tables"),
        (["run", "mae_vit_huge"], "preset = 'mae_vit_huge' is not one of"),
        (["run", "--steps", "3"], "the preset must come first"),
        (["reconstruct"], "CHECKPOINT and --out are missing"),
        (["reconstruct", "x", "--out", "y.png"], "IMAGES is missing"),
        (["probe", "x", "demo", "--checkpoint", "y"], "it is called --weights now"),
        (["propose", "x", "--sam-checkpoint", "y"], "it is called --sam-weights now"),
        (["finetune", "x", "demo", "--out", "z", "--run", "y"], "it is called --init now"),
        (
            ["pipeline", "optidel-demo", "--propose.sam.checkpoint", "x"],
            "it is called --propose.sam.weights now",
        ),
    ],
)
def test_bad_commands(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in fails(arguments, capsys)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["run", "demo", "--help"]], ids=" ".join
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(main, arguments) == 0
    assert "usage: python -m pretrain_jax" in capsys.readouterr().out
