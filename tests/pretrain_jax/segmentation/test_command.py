"""The command `finetune` and the pictures it leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardset.cli import run
from hardset.folder import read_manifest
from pretrain_jax.__main__ import main
from pretrain_jax.data.options import adopt_reading
from pretrain_jax.segmentation import finetuning
from pretrain_jax.segmentation.masks import IGNORE
from pretrain_jax.segmentation.result import Prediction, legend, overlay, overlay_sheet, spread
from tests.pretrain_jax.segmentation.rectangles import CONFIG, write_set
from tests.pretrain_jax.segmentation.test_burned_text import ground, written

# The options that make the preset the other tests' configuration, so that nothing compiles anew.
OPTIONS = f"""--head linear --mode scratch --steps {CONFIG.steps} --batch-size 4 --warmup-steps 3
--learning-rate 0.01 --checkpoint-every 8 --test-share 0.3 --bootstrap-draws 2000
--encoder.image-size 16 --encoder.patch-size 4 --encoder.width 16 --encoder.depth 1
--encoder.heads 2""".split()


def test_a_run_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, images = tmp_path / "data", tmp_path / "images"
    write_set(data)
    images.mkdir()
    Image.fromarray(written(ground(), "DOE, JANE", 20)).save(images / "a.png")
    out = tmp_path / "out"
    command = ["finetune", str(data), "demo", *OPTIONS, "--out", str(out), "--seed", "3"]
    assert run(main, [*command, "--pretraining", str(images)]) == 0
    shown = capsys.readouterr()
    assert "linear scratch, 3 test cases" in shown.out and "mIoU of threshold" in shown.out
    sentence = "of 1 image(s) for pre-training (all images) 1 seem to show burned-in writing"
    assert f"warning: {sentence}" in shown.err
    text, groups, compared = read_manifest(out).notes
    assert text.startswith(sentence)
    assert "of 1 of 1 images and of 3 of 3 test cases is not known" in groups
    assert compared.startswith("1 image(s)")
    # A finished run says it again and looks at no image.
    monkeypatch.setattr(finetuning, "frames_with_text", None)
    assert run(main, [*command, "--pretraining", str(images)]) == 0
    assert f"warning: {sentence}" in capsys.readouterr().err
    assert (out / "overlays.png").is_file()
    # The same command prints the finished record.
    assert run(main, [*command, "--json"]) == 0
    assert '"miou"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["finetune", "--out", "x"], "the data and the preset must come first"),
        (["finetune", "data", "quick"], "preset = 'quick' is not one of reference, demo"),
        (["finetune", "data", "demo"], "--out is missing"),
        (["finetune", "data", "demo", "--out", "out"], "data set folder data does not exist"),
        (["finetune", "data", "demo", "--head", "unet"], "--head"),
    ],
)
def test_bad_commands(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(main, options) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", ["ignored", "array", "inside", "beside the images"])
def test_bad_data_are_said_before_training(
    trouble: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, images = tmp_path / "data", tmp_path / "out", tmp_path / "images"
    write_set(data)
    images.mkdir()
    options = []
    if trouble == "ignored":
        (data / "classes.txt").write_text("tissue\npolyp\n")
        for path in (data / "masks").iterdir():
            Image.fromarray(np.full((20, 24), IGNORE, np.uint8)).save(path)
        told = "every pixel of its mask"
    elif trouble == "array":
        (data / "masks/3.png").unlink()
        (data / "masks/3.npy").write_text("no array")
        told = "3.npy cannot be read as an .npy array"
    elif trouble == "inside":
        out, told = data / "results", "lies inside the image source"
    else:
        out, told, options = images / "out", "lies inside the image source", ["--pretraining"]
        options.append(str(images))
    before = sorted(path for path in tmp_path.rglob("*") if path != out)
    assert run(main, ["finetune", str(data), "demo", *OPTIONS, "--out", str(out), *options]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert sorted(path for path in tmp_path.rglob("*") if path != out) == before


def test_colours_of_an_overlay() -> None:
    pixels = np.full((2, 2, 1), 100, np.uint8)
    labels = np.array([[0, 1], [2, IGNORE]], np.uint8)
    shown = overlay(pixels, labels)
    assert shown[0, 0].tolist() == [100, 100, 100]
    # Half of 100 and half of orange (230, 159, 0), of sky blue (86, 180, 233), of grey.
    assert shown[0, 1].tolist() == [165, 130, 50]
    assert shown[1, 0].tolist() == [93, 140, 166]
    assert shown[1, 1].tolist() == [114, 114, 114]
    assert legend(("background", "tumour", "organ")) == "orange tumour, sky blue organ"


def test_a_sheet_shows_cases_spread_over_all() -> None:
    assert spread(30, 4) == [0, 10, 19, 29]
    assert spread(2) == [0, 1] and spread(1) == [0]
    labels = np.zeros((4, 4), np.uint8)
    case = Prediction("name", np.zeros((4, 4, 3), np.uint8), labels, labels, 1.0)
    names = ("background", "tumour")
    few, many = overlay_sheet([case], names, of=9), overlay_sheet([case] * 12, names, of=30)
    assert many.shape[0] > few.shape[0] and many.shape[1] == few.shape[1]


def test_twelve_bits_are_told_by_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is that of the same images in 8 bits; other bits are another stage."""
    plain, deep = tmp_path / "plain", tmp_path / "deep"
    write_set(plain)
    write_set(deep)
    for path in (deep / "images").iterdir():
        values = np.asarray(Image.open(path)).astype(float)
        path.unlink()
        np.save(path.with_suffix(".npy"), np.rint(values * (4095 / 255)).astype(np.uint16))
    scores = []
    for data, more in ((plain, []), (deep, ["--bits", "12"])):
        out = tmp_path / f"out-{data.name}"
        command = ["finetune", str(data), "demo", *OPTIONS, "--out", str(out), *more]
        assert run(main, [*command, "--json"]) == 0
        shown = capsys.readouterr()
        assert "hardly use" not in shown.err
        scores.append(json.loads(shown.out)["miou"])
        assert read_manifest(out).parameters.get("bits") == (12 if more else None)
    assert scores[0] == scores[1]
    adopt_reading({})
    assert run(main, ["finetune", str(deep), "demo", *OPTIONS, "--out", str(out)]) == 2
    assert "was made with parameters.bits = 12" in capsys.readouterr().err
    # Predictions need not be told again, and are those of the images in 8 bits.
    masks = []
    for data in (plain, deep):
        adopt_reading({})
        found = tmp_path / f"masks-{data.name}"
        options = ["--model", str(tmp_path / f"out-{data.name}"), "--out", str(found)]
        assert run(main, ["predict", str(data / "images"), *options]) == 0
        masks.append([path.read_bytes() for path in sorted((found / "masks").iterdir())])
    assert len(masks[0]) == 10 and masks[0] == masks[1]
