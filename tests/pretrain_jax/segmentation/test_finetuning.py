"""Fine-tuning: what it writes, what it shares, and that an interruption changes nothing."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from hardset.folder import Made, digest, read_manifest
from hardset.verify import verify
from pretrain_jax.features import encoder as opening
from pretrain_jax.models.dpt.modeling import DPTConfig
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.simclr import SimCLR, SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.segmentation import (
    FINETUNE_PRESETS,
    Frame,
    LeakageError,
    SegmentationSet,
    confusion,
    finetune,
    iou,
    load_segmenter,
    normdel,
    read_case,
    split,
)
from pretrain_jax.segmentation.heads import model_of
from pretrain_jax.segmentation.segmenter import Origin, load_encoder, origin_of
from pretrain_jax.train.config import TrainConfig
from pretrain_jax.train.logging import read_log
from pretrain_jax.train.weights import TrainedModel
from pretrain_jax.weights import read_state, write_safetensors
from tests.pretrain_jax.segmentation.rectangles import CONFIG, ENCODER
from tests.stages import open_stage

pytestmark = pytest.mark.usefixtures("lightly_compiled")

ROOT = Path(__file__).parents[3]
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from pretrain_jax.segmentation import finetune, read_pair
from pretrain_jax.segmentation.dataset import TrainingExamples
from tests.pretrain_jax.segmentation.rectangles import CONFIG

taken = TrainingExamples.batch

def batch(self, step):
    if step == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    return taken(self, step)

TrainingExamples.batch = batch
finetune(None, read_pair(Path(sys.argv[1])), sys.argv[2], config=CONFIG, seed=3)
"""


def losses(folder: Path) -> list[str]:
    return (folder / "losses.csv").read_text().splitlines()[1:]


def test_a_run_and_its_record(rectangles: SegmentationSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = finetune(None, rectangles, out, config=CONFIG, seed=3)
    assert read_manifest(out, "finetune") == manifest
    files = {"result.json", "overlays.png", "losses.csv", "model.safetensors"}
    assert set(manifest.outputs) == files
    assert {path.name for path in out.glob("[!.]*")} == files | {
        *("stage.json", "manifest.json", "run")
    }
    # The log of the run is kept, its checkpoints are not.
    assert [line["step"] for line in read_log(out / "run" / "log.jsonl")] == list(range(1, 31))
    assert not (out / "run" / "checkpoints").exists()
    assert "not compared" in manifest.notes[0]
    record = json.loads((out / "result.json").read_text())
    assert (record["objective"], record["method"], record["ratio"]) == ("none", "scratch", 0.0)
    assert (record["head"], record["mode"], record["steps"], record["seed"]) == (
        "linear",
        "scratch",
        30,
        3,
    )
    assert record["miou"]["low"] <= record["miou"]["value"] <= record["miou"]["high"]
    assert manifest.counts["miou"] == record["miou"]["value"]
    assert set(record["per_class"]) == {"background", "foreground"}
    assert len(record["cases"]) == manifest.counts["test_cases"] == 3
    assert record["normdel"] is None  # there is no share of the data
    assert set(record["baselines"]) == {"threshold", "background"}
    # The classes differ by 150 grey levels and more: a threshold finds nearly every pixel.
    assert record["baselines"]["threshold"]["miou"]["value"] > 0.95
    steps = [float(line.split(",")[1]) for line in losses(out)]
    assert len(steps) == 30 and np.mean(steps[-5:]) < 0.6 * np.mean(steps[:3])
    # Far above what predicting background gives.
    assert record["miou"]["value"] > record["baselines"]["background"]["miou"]["value"] + 0.15
    with Image.open(out / "overlays.png") as picture:
        assert picture.width > 300
    # Once more: nothing is done again.
    before = (out / "result.json").stat().st_mtime_ns
    assert finetune(None, rectangles, out, config=CONFIG, seed=3) == manifest
    assert (out / "result.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="seed = 3, now seed = 4"):
        finetune(None, rectangles, out, config=CONFIG, seed=4)
    # The weights that were kept give the scores again, from images of any size.
    segmenter = load_segmenter(out)
    test = split(rectangles, test_share=CONFIG.test_share, seed=CONFIG.split_seed)[1]
    pairs = [read_case(test, case) for case in test.cases]
    masks = segmenter.predict([pixels for pixels, _ in pairs], batch_size=2)
    total = sum(confusion(m, truth, classes=2) for m, (_, truth) in zip(masks, pairs, strict=True))
    assert iou(total).mean() == pytest.approx(record["miou"]["value"], abs=1e-12)
    assert segmenter.classes == ("background", "foreground")
    other = segmenter.predict([np.zeros((7, 50, 3), np.uint8)], batch_size=2)
    assert other[0].shape == (7, 50) and other[0].dtype == np.uint8
    with pytest.raises(
        ValueError, match=r"images\[0\] has shape \(7, 50\).*takes \(height, width, 3"
    ):
        segmenter.predict([np.zeros((7, 50), np.uint8)])


def test_weights_that_do_not_fit(rectangles: SegmentationSet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finetune(None, rectangles, out, config=CONFIG, seed=3)
    path = out / "model.safetensors"
    arrays = dict(read_state(path))
    name = next(name for name in arrays if name.startswith("params/layers"))
    write_safetensors(path, arrays | {name: arrays[name][:1]})
    with pytest.raises(ValueError, match=f"does not fit the manifest .*{name} has the shape"):
        load_segmenter(out)
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors does not exist"):
        load_segmenter(out)
    with pytest.raises(ValueError, match="finetune"):
        load_segmenter(tmp_path)


def test_a_killed_run_has_the_result_of_an_undisturbed_one(
    rectangles: SegmentationSet, tmp_path: Path
) -> None:
    """SIGKILL while batch 21 is made: the newest checkpoint is that of step 16."""
    undisturbed = finetune(None, rectangles, tmp_path / "whole", config=CONFIG, seed=3)
    out = tmp_path / "killed"
    folder = rectangles.cases[0].image.parents[1]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(out)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    assert "16" in [path.name for path in (out / "run" / "checkpoints").iterdir()]
    assert not (out / "manifest.json").exists()
    lost = Path(shutil.copytree(out, tmp_path / "lost"))
    (lost / "run" / "log.jsonl").unlink()
    manifest = finetune(None, rectangles, lost, config=CONFIG, seed=3)
    assert losses(lost) == losses(tmp_path / "whole")[16:]
    assert manifest.outputs["result.json"] == undisturbed.outputs["result.json"]
    assert "run/log.jsonl was lost or damaged: losses of 16 step(s)" in manifest.notes[0]
    resumed = finetune(None, rectangles, out, config=CONFIG, seed=3)
    assert losses(out) == losses(tmp_path / "whole")
    # The manifest knows every file, the trainer's own among them.
    checked = verify([out, lost, tmp_path / "whole"])
    assert checked.passed and checked.counts["not listed"] == 0
    assert digest(resumed) == digest(undisturbed)


def trained_model(kind: str) -> TrainedModel:
    """What a run of pre-training leaves, with random weights."""
    if kind == "mae":
        mae = MAEConfig(ENCODER, decoder_width=8, decoder_depth=1, decoder_heads=2)
        model: nnx.Module = MAE(mae, rngs=nnx.Rngs(5))
        config = TrainConfig(model=mae)
    else:
        simclr = SimCLRConfig(dataclasses.replace(ENCODER, pool="mean"), 8, 4)
        model = SimCLR(simclr, rngs=nnx.Rngs(5))
        config = TrainConfig(model=simclr)
    return TrainedModel(model, config, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2), step=7)


@pytest.mark.parametrize("kind", ["mae", "simclr"])
def test_a_pretrained_encoder_and_where_it_comes_from(
    kind: str, rectangles: SegmentationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    model = trained_model(kind)

    def load(folder: Path) -> TrainedModel:
        loaded.append(folder)
        return dataclasses.replace(model, model=nnx.clone(model.model))

    monkeypatch.setattr(opening, "load_model", load)
    # A bare run says little, the folder of a stage what the data were.
    bare = tmp_path / "bare"
    (bare / "checkpoints").mkdir(parents=True)
    found = load_encoder(bare, None)
    assert found.encoder.config.pool is None and found.mean == (0.4, 0.4, 0.4)
    known = Origin(kind, "", None, None, None, "bare", found.sha256)
    assert origin_of(bare, found) == (known, found.sha256)
    stage = open_stage(
        tmp_path / "stage",
        "pretrain",
        {"objective": kind, "method": "optidel", "ratio": 0.05},
        2,
        {},
    )
    (tmp_path / "stage" / "run").mkdir()
    manifest = stage.finish(Made({"storage_ratio": 0.049}))
    config = dataclasses.replace(CONFIG, mode="full")
    finetune(tmp_path / "stage", rectangles, tmp_path / "out", config=config, compared=12)
    assert loaded[-1] == tmp_path / "stage" / "run"
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["objective"], record["method"], record["ratio"]) == (kind, "optidel", 0.05)
    assert (record["storage_ratio"], record["pretraining_seed"]) == (0.049, 2)
    assert record["normdel"] == pytest.approx(normdel(record["miou"]["value"], 0.049))
    written = read_manifest(tmp_path / "out")
    assert written.inputs["init"] == digest(manifest)
    assert written.counts["leaks"] == 0 and written.notes[0].startswith("12 image(s)")
    larger = load_encoder(bare, 32)
    assert larger.encoder.config.size == (32, 32) and larger.sha256 != found.sha256


def test_another_seed_is_another_run(rectangles: SegmentationSet, tmp_path: Path) -> None:
    for seed in (0, 1):
        finetune(None, rectangles, tmp_path / str(seed), config=CONFIG, seed=seed)
    assert losses(tmp_path / "0")[0] != losses(tmp_path / "1")[0]


def test_test_cases_among_the_images_for_pretraining(
    rectangles: SegmentationSet, tmp_path: Path
) -> None:
    frames = [Frame(case.name, str(case.image)) for case in rectangles.cases]
    with pytest.raises(LeakageError, match=r"3 test case\(s\)"):
        finetune(None, rectangles, tmp_path / "a", config=CONFIG, pretraining=frames)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("fields", "run", "complaint"),
    [
        ({"mode": "full"}, None, "mode = 'full', and init is missing"),
        ({}, "somewhere", "mode = 'scratch', and init = somewhere is given"),
        ({"head": "unet"}, None, "head = 'unet' is not one of"),
        ({"steps": 0}, None, r"steps = 0 .*\[1, "),
        ({"learning_rate": 0.0}, None, "learning_rate = 0"),
        ({"crop_scale": (1.0, 0.5)}, None, "not an ascending range"),
        ({"image_size": 18}, None, "image_size = 18 is not divisible by patch_size = 4"),
        (
            {"head": "dpt"},
            None,
            "needs an encoder of 4 blocks, this one has 1",
        ),
    ],
)
def test_bad_options(
    rectangles: SegmentationSet, tmp_path: Path, fields: dict, run: str | None, complaint: str
) -> None:
    config = dataclasses.replace(CONFIG, **fields)
    with pytest.raises(ValueError, match=complaint):
        finetune(run, rectangles, tmp_path / "out", config=config)
    assert not (tmp_path / "out").exists()


def test_the_reference_preset() -> None:
    config = FINETUNE_PRESETS["reference"]
    assert (config.steps, config.learning_rate, config.weight_decay) == (20_000, 6e-5, 0.01)
    model = model_of(config, ViTConfig(), 2)
    assert isinstance(model, DPTConfig) and model.hooks == (2, 5, 8, 11)
    assert model.head_doublings == 1
