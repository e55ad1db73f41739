"""Masked autoencoders that go on from published encoders, against those of transformers."""

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from pretrain_jax.models.mae import MAE, MAEConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.train.objectives import make_objective
from pretrain_jax.train.starting import with_weights
from pretrain_jax.train.step import Step, make_mesh
from pretrain_jax.train.weights import NO_OPTIMIZER, NO_SCHEDULE
from tests.parity.tensors import randomise, relative
from tests.parity.test_encoders import CASES, PATCH, SIDE, expected, oracle

Sizes = dict[str, int]


def started(source: Path, theirs: torch.nn.Module, *, side: int, eps: float) -> MAE:
    """A masked autoencoder of double precision that takes an encoder's weights."""
    known = getattr(theirs.config, "vision_config", theirs.config)
    hidden = getattr(known, "intermediate_size", None) or getattr(known, "mlp_dim", None)
    encoder = ViTConfig(
        image_size=side,
        patch_size=PATCH,
        width=known.hidden_size,
        depth=2,
        heads=known.num_attention_heads,
        mlp_ratio=(hidden or 2 * known.hidden_size) / known.hidden_size,
        layer_norm_eps=eps,
        positions="learned",
    )
    config = MAEConfig(encoder, 16, 1, 2)
    objective = make_objective(config, "float64", (0.5,) * 3, (0.5,) * 3)
    step = Step(objective, NO_OPTIMIZER, NO_SCHEDULE, make_mesh(1))
    state = with_weights(step.initial_state(), step, str(source))
    model = nnx.merge(step.graph(), state.params, state.constants)
    assert isinstance(model, MAE)
    return model


@pytest.mark.parametrize(("name", "eps"), [("dinov2", 1e-6), ("vit", 1e-12), ("mae", 1e-12)])
def test_the_encoder_is_the_published_one(
    tmp_path: Path, name: str, eps: float, parity_seed: int
) -> None:
    """DINOv2's LayerScale is in the projections: the tokens are the same in double precision."""
    case = CASES[name]
    theirs = oracle(case, parity_seed)
    theirs.save_pretrained(tmp_path)
    images = np.random.default_rng(parity_seed).normal(size=(2, SIDE, SIDE, 3))
    tokens = expected(theirs, case, images)
    decoder = {"decoder": 20} if name == "mae" else {}
    if decoder:  # the encoder alone: the decoders differ in size
        theirs = theirs.vit
        theirs.save_pretrained(tmp_path)
    with jax.enable_x64(True):
        model = started(tmp_path, theirs, side=SIDE, eps=eps)
        assert relative(model.encode(images), tokens) < 1e-10


def test_positions_are_interpolated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parity_seed: int
) -> None:
    """At 5 x 5 patches instead of 3 x 3, as transformers interpolates them in single precision."""
    theirs = oracle(CASES["dinov2"], parity_seed)
    theirs.save_pretrained(tmp_path)
    images = np.random.default_rng(1).normal(size=(2, 5 * PATCH, 5 * PATCH, 3))
    tokens = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).last_hidden_state
    with jax.enable_x64(True):
        model = started(tmp_path, theirs, side=5 * PATCH, eps=1e-6)
        assert relative(model.encode(images), tokens) < 1e-5
    told = capsys.readouterr().err
    assert f"{tmp_path}: positions of 3 x 3 patches are interpolated to 5 x 5" in told


def test_sams_encoder_without_its_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parity_seed: int
) -> None:
    """The function of a SAM whose relative positions are 0 and whose blocks attend to all.

    That of a plain block, of transformers' ViT, with the same arrays; only the patches are
    compared before the last norm, as SAM has neither class token nor norm.
    """
    theirs = oracle(CASES["sam"], parity_seed)
    theirs.save_pretrained(tmp_path)
    with jax.enable_x64(True):
        model = started(tmp_path, theirs, side=SIDE, eps=1e-6)
    told = capsys.readouterr().err
    assert "SAM's relative positions, windows and neck are left out" in told
    layer = theirs.vision_encoder.layers[1]
    block = model.encoder.blocks[1]
    pairs = (
        (block.qkv.kernel, layer.attn.qkv.weight.T),
        (block.out.kernel, layer.attn.proj.weight.T),
        (block.fc1.kernel, layer.mlp.lin1.weight.T),
        (block.fc2.bias, layer.mlp.lin2.bias),
        (block.norm2.scale, layer.layer_norm2.weight),
        (model.encoder.positions[1:], theirs.vision_encoder.pos_embed.flatten(0, 2)),
    )
    for ours, array in pairs:
        np.testing.assert_array_equal(np.asarray(ours[...]), array.detach().numpy())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dinov3", "DINOv3 has registers, and positions that rotate queries and keys"),
        ("dinov2-registers", "this DINOv2 has 3 registers, which a masked autoencoder's"),
    ],
)
def test_encoders_that_are_no_plain_vit(tmp_path: Path, name: str, sentence: str) -> None:
    theirs = oracle(CASES[name], 0)
    theirs.save_pretrained(tmp_path)
    with jax.enable_x64(True), pytest.raises(ValueError, match=sentence):
        started(tmp_path, theirs, side=SIDE, eps=1e-6)


def test_another_size_is_refused(tmp_path: Path) -> None:
    theirs = transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=1,
            image_size=SIDE,
            patch_size=PATCH,
        )
    )
    randomise(theirs, 0)
    theirs.save_pretrained(tmp_path)
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match=r"of another model: depth = 2 here and 1 there; hidden"),
    ):
        started(tmp_path, theirs, side=SIDE, eps=1e-6)
