"""Heads on the encoders of DINOv2 and DINOv3, and fine-tuning from files of published weights."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hardset.cli import run
from hardset.folder import read_manifest
from pretrain_jax.__main__ import main
from pretrain_jax.models.dinov2 import DINOv2, DINOv2Config, dinov2_table
from pretrain_jax.models.dinov3 import DINOv3, DINOv3Config, dinov3_table
from pretrain_jax.models.dpt.modeling import DPT, DPTConfig
from pretrain_jax.models.encoders import encoder_from_json, encoder_to_json
from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.segmentation import (
    SegmentationSet,
    confusion,
    finetune,
    iou,
    load_segmenter,
    read_case,
    split,
)
from pretrain_jax.segmentation.heads import ProbeConfig, TokenProbe
from pretrain_jax.train.flops import vit_forward_flops
from pretrain_jax.weights import export_state, read_state, write_safetensors
from tests.pretrain_jax.segmentation.rectangles import CONFIG

pytestmark = pytest.mark.usefixtures("lightly_compiled")

# Heads of 64 numbers, as all published sizes have them: no config.json has to say so.
V2 = DINOv2Config(
    image_size=32, patch_size=8, width=64, depth=2, heads=1, mlp_ratio=1.0, registers=4
)
V3 = DINOv3Config(
    image_size=32, patch_size=8, width=64, depth=2, heads=1, hidden_width=64, registers=4
)
VIT = ViTConfig(image_size=32, patch_size=8, width=64, depth=2, heads=1, class_token=False)


def images(count: int = 1) -> jax.Array:
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(count, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize("kind", ["dinov2", "dinov3", "vit"])
def test_heads_see_the_patches_of_any_encoder(kind: str) -> None:
    """The last states are those that the encoder norms, and registers change no head's output."""
    config: Any = {"dinov2": V2, "dinov3": V3, "vit": VIT}[kind]
    encoder: Any = {"dinov2": DINOv2, "dinov3": DINOv3, "vit": ViT}[kind](config, rngs=nnx.Rngs(1))
    first, last = encoder.hidden_states(images(), [0, 1])
    assert config.grid == (4, 4) and config.leading == {"vit": 0}.get(kind, 5)
    assert first.shape == last.shape == (1, config.leading + 16, 64)
    output = encoder(images())
    patches = output if kind == "vit" else output.patches
    wanted = encoder.norm(last)[:, config.leading :]
    np.testing.assert_allclose(patches, wanted, atol=1e-6)  # single precision
    probe = TokenProbe(ProbeConfig(config, 3), rngs=nnx.Rngs(0))
    probe.encoder = encoder
    (layer,) = probe.layers
    kernel, bias = np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...])
    logits = np.asarray(patches, np.float64) @ kernel + bias
    np.testing.assert_allclose(probe(images()).reshape(1, 16, 3), logits, atol=1e-5)
    # DPT needs four blocks, of which the head alone is computed here.
    deep = dataclasses.replace(config, depth=4)
    on = DPTConfig.on(deep, classes=3, widths=(4, 4, 4, 4), fusion_width=4, head_doublings=0)
    assert on.readout == ("ignore" if kind == "vit" else "project")
    dpt: Any = DPT(on, rngs=nnx.Rngs(0))
    states = [first, last, first, last]
    found = dpt.decode(states)
    assert found.shape == (1, 32, 32, 3)
    changed = [state.at[:, 1 : config.leading].set(7.0) for state in states]
    assert np.array_equal(dpt.decode(changed), found)
    assert encoder_from_json(json.loads(json.dumps(encoder_to_json(deep)))) == deep


def test_positions_on_another_grid() -> None:
    """The table is interpolated once, to what the encoder does with images of that size."""
    small = DINOv2(V2, rngs=nnx.Rngs(2))
    large = small.with_image_size(48)
    assert large.config == dataclasses.replace(V2, image_size=48)
    pixels = jnp.asarray(np.random.default_rng(1).normal(size=(1, 48, 48, 3)), jnp.float32)
    one, other = small(pixels), large(pixels)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)  # single precision


def test_flops_of_gated_blocks() -> None:
    """One block by hand: 21 tokens of width 64, MLP of 3 matrices with hidden width 64."""
    gated = dataclasses.replace(V3, swiglu=True, depth=1)
    tokens = 1 + 4 + 16
    by_hand = 2 * 16 * 8 * 8 * 3 * 64  # patches
    by_hand += 2 * tokens * 64 * 64 * (3 + 1 + 3) + 2 * 2 * tokens**2 * 64
    assert vit_forward_flops(gated) == by_hand


def weights(kind: str, folder: Path) -> Path:
    """A file in the layout of transformers with random weights."""
    model: Any
    if kind == "dinov2":
        model, table = DINOv2(V2, rngs=nnx.Rngs(3)), dinov2_table(V2)
    else:
        model, table = DINOv3(V3, rngs=nnx.Rngs(3)), dinov3_table(V3)
    path = folder / f"{kind}.safetensors"
    write_safetensors(path, export_state(model, table))
    return path


@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_the_last_block_of_a_published_encoder(
    kind: str, rectangles: SegmentationSet, tmp_path: Path
) -> None:
    path, out = weights(kind, tmp_path), tmp_path / "out"
    config = dataclasses.replace(
        CONFIG, mode="last", blocks=1, steps=4, image_size=16, checkpoint_every=4
    )
    finetune(path, rectangles, out, config=config)
    record = json.loads((out / "result.json").read_text())
    assert (record["objective"], record["method"], record["mode"]) == (kind, "", "last")
    assert record["init"] == path.name
    assert record["init_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    notes = [one for one in read_manifest(out).notes if one.startswith("weights to start from: ")]
    assert any("are assumed" in note for note in notes)  # mean and deviation of pixels
    # The model is built again from the manifest alone, and has the scores.
    segmenter = load_segmenter(out)
    assert type(segmenter.encoder) is (DINOv2Config if kind == "dinov2" else DINOv3Config)
    assert segmenter.encoder.grid == (2, 2)
    test = split(rectangles, test_share=CONFIG.test_share, seed=CONFIG.split_seed)[1]
    pairs = [read_case(test, case) for case in test.cases]
    masks = segmenter.predict([pixels for pixels, _ in pairs], batch_size=4)
    total = sum(confusion(m, truth, classes=2) for m, (_, truth) in zip(masks, pairs, strict=True))
    assert np.nanmean(iou(total)) == pytest.approx(record["miou"]["value"], abs=1e-12)
    # What is not trained is in the kept file as it was in the one to start from, bit for bit.
    kept, given = read_state(out / "model.safetensors"), read_state(path)
    first = {name: array for name, array in kept.items() if "encoder/blocks/0/" in name}
    assert first and all(name.startswith("constants/") for name in first)
    values = {array.tobytes() for array in given.values()}
    values |= {array.T.tobytes() for array in given.values()}
    for name, array in first.items():
        if any(part in name for part in ("/fc1/", "/fc2/", "/out/", "/norm")):  # the file's own
            assert array.tobytes() in values, name
    moved = {name for name in kept if name.startswith("params/encoder/")}
    assert {name.split("/")[2] for name in moved} == {"blocks", "norm"}
    assert all("blocks/1/" in name or "encoder/norm/" in name for name in moved)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--init", "nothing.pth"], "nothing.pth does not exist"),
        (["--model", "dinov3"], "dinov2.safetensors"),
        (["--image-size", "20"], "image_size = 20 is not divisible"),
        (["--mode", "last", "--blocks", "3"], "blocks = 3: the encoder has 2"),
        (["--head", "dpt"], "needs an encoder of 4 blocks, this one has 2"),
    ],
)
def test_bad_commands(
    options: list[str],
    complaint: str,
    rectangles: SegmentationSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, path = rectangles.cases[0].image.parents[1], weights("dinov2", tmp_path)
    given = ["--head", "linear", *([] if "--init" in options else ["--init", str(path)]), *options]
    command = ["finetune", str(data), "demo", "--out", str(tmp_path / "out"), *given]
    assert run(main, command) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
