"""The command `export`: runs, stages of fine-tuning, and what is neither."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from hardset.cli import run
from hardset.verify import verify
from pretrain_jax import DataOptions, TrainConfig
from pretrain_jax.__main__ import main
from pretrain_jax.features import open_encoder
from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.models.simclr import SimCLR, SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.segmentation import SegmentationSet, finetune, load_segmenter
from pretrain_jax.segmentation.config import FinetuneConfig
from pretrain_jax.train import train
from pretrain_jax.train.starting import import_weights
from pretrain_jax.train.weights import load_model
from pretrain_jax.weights import export_state, read_state, write_safetensors
from tests.pretrain_jax.segmentation.rectangles import CONFIG, DEEP, write_set

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> SegmentationSet:
    return write_set(tmp_path_factory.mktemp("set"))


def entries(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def test_a_masked_autoencoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both JSON files, the same bits when it is opened, and the same command twice."""
    encoder = ViTConfig(image_size=12, patch_size=4, width=8, depth=1, heads=2)
    config = TrainConfig(model=MAEConfig(encoder, 8, 1, 2), data=DataOptions(mean=MEAN, std=STD))
    model = nnx.jit(lambda: MAE(config.model, rngs=nnx.Rngs(4)))()
    file, out = tmp_path / "mae.safetensors", tmp_path / "out"
    write_safetensors(file, export_state(model, mae_table(config.model, "official")))
    import_weights(file, config, tmp_path / "run")
    command = ["export", str(tmp_path / "run"), "--out", str(out)]
    for _ in range(2):
        assert run(main, command) == 0
        arrays = len(read_state(out / "model.safetensors"))
        assert f"{out}: {arrays} arrays of a ViTMAEForPreTraining" in capsys.readouterr().out
    assert not verify([out]).findings
    told = entries(out, "config")
    assert (told["model_type"], told["hidden_size"], told["image_size"]) == ("vit_mae", 8, 12)
    told = entries(out, "preprocessor_config")
    assert (told["image_mean"], told["image_std"]) == (list(MEAN), list(STD))
    assert told["size"] == {"height": 12, "width": 12}
    opened = open_encoder(out)
    assert (opened.kind, opened.mean, opened.std) == ("mae", MEAN, STD)
    assert opened.sha256 == open_encoder(tmp_path / "run").sha256
    # The whole model, decoder included, starts another run.
    import_weights(out, config, tmp_path / "again")
    again = load_model(tmp_path / "again").model
    for ours, theirs in zip(*(jax.tree.leaves(nnx.state(m)) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = ["export", str(tmp_path / "again"), "--out", str(tmp_path)]
    assert run(main, other) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_the_encoder_of_simclr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compiled_once: dict[str, str]
) -> None:
    write_set(tmp_path / "set")
    encoder = ViTConfig(image_size=16, patch_size=8, width=8, depth=1, heads=2, pool="mean")
    config = TrainConfig(
        model=SimCLRConfig(encoder, 8, 4),
        data=DataOptions(path=str(tmp_path / "set" / "images"), mean=MEAN, std=STD, workers=0),
        out=str(tmp_path / "run"),
        batch_size=4,
        steps=1,
        validate_every=0,
    )
    with pytest.warns(UserWarning, match="6 negatives"):
        train(config)
    capsys.readouterr()
    assert run(main, ["export", config.out, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "of a ViTModel" in told.out
    assert "it was trained on the mean of the patches: use that" in told.err
    trained = load_model(config.out).model
    assert isinstance(trained, SimCLR)
    opened = open_encoder(tmp_path / "out").model
    for pair in zip(
        *(jax.tree.leaves(nnx.state(m)) for m in (trained.encoder, opened)), strict=True
    ):
        np.testing.assert_array_equal(*pair)


@pytest.mark.parametrize(
    ("head", "architecture", "note"),
    [
        ("linear", "ViTModel", "without its head: transformers has no model with a head on single"),
        ("dpt", "DPTForSemanticSegmentation", ""),
    ],
)
def test_fine_tuned_models(
    rectangles: SegmentationSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    head: str,
    architecture: str,
    note: str,
) -> None:
    fields: dict[str, Any] = {"head": head, "encoder": DEEP, "steps": 1}
    config: FinetuneConfig = dataclasses.replace(
        CONFIG, **fields, widths=(4, 4, 4, 4), fusion_width=4
    )
    finetune(None, rectangles, tmp_path / "model", config=config, seed=3)
    assert run(main, ["export", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert f"of a {architecture}" in told.out
    assert note in told.err
    known = entries(tmp_path / "out", "config")
    assert known["architectures"] == [architecture] and known["hidden_size"] == DEEP.width
    segmenter = load_segmenter(tmp_path / "model")
    if head == "dpt":
        assert [known["id2label"][str(n)] for n in range(2)] == list(segmenter.classes)
        assert "neck.fusion_stage.layers.0.residual_layer1.convolution1.weight" in read_state(
            tmp_path / "out" / "model.safetensors"
        )
    else:
        encoder = open_encoder(tmp_path / "out")
        assert (encoder.kind, encoder.image_size) == ("vit", DEEP.size[0])


def test_what_holds_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    for source, sentence in (
        (tmp_path / "a", "holds no trained model; give a folder of stage pretrain or finetune"),
        (tmp_path / "missing", "does not exist or is no folder"),
    ):
        assert run(main, ["export", str(source), "--out", str(tmp_path / "out")]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
