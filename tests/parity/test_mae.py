"""Our masked autoencoder against ViTMAE of transformers: outputs, loss, gradients, files."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from pretrain_jax.models.exporting import exported
from pretrain_jax.models.mae import MAE, MAEConfig, MAEOutput
from pretrain_jax.models.mae.params import mae_table
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.models.vit.params import transformers_keys
from pretrain_jax.weights import export_state, load_into, read_state
from pretrain_jax.weights.published import write_published
from tests.parity.tensors import arrays, gradient_errors, gradients, randomise, relative


def draw_config(seed: int, case: int) -> MAEConfig:
    """A small configuration; the cases differ in every size."""
    rng = np.random.default_rng([seed, case])
    patch = int(rng.choice([2, 4, 5, 8]))
    grid = int(rng.integers(3, 7))
    heads, decoder_heads = (int(h) for h in rng.choice([1, 2, 3, 4], 2))
    encoder = ViTConfig(
        image_size=patch * grid,
        patch_size=patch,
        channels=int(rng.choice([1, 2, 3])),
        width=4 * heads * int(rng.integers(2, 6)),
        depth=int(rng.integers(1, 4)),
        heads=heads,
        mlp_ratio=float(rng.choice([1.5, 2.0, 4.0])),
        layer_norm_eps=float(rng.choice([1e-12, 1e-6, 1e-3])),
        dtype="float64",
        param_dtype="float64",
    )
    return MAEConfig(
        encoder,
        decoder_width=4 * decoder_heads * int(rng.integers(2, 6)),
        decoder_depth=int(rng.integers(1, 3)),
        decoder_heads=decoder_heads,
        mask_ratio=float(rng.choice([0.4, 0.5, 0.65, 0.75, 0.85])),
        norm_pixel_loss=case % 2 == 0,
    )


def oracle(config: MAEConfig, seed: int, **fields: object) -> transformers.ViTMAEForPreTraining:
    """ViTMAE with random weights, written out independently of our own export."""
    encoder = config.encoder
    torch_config = transformers.ViTMAEConfig(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        intermediate_size=round(encoder.width * encoder.mlp_ratio),
        layer_norm_eps=encoder.layer_norm_eps,
        image_size=encoder.image_size,
        patch_size=encoder.patch_size,
        num_channels=encoder.channels,
        decoder_num_attention_heads=config.decoder_heads,
        decoder_hidden_size=config.decoder_width,
        decoder_num_hidden_layers=config.decoder_depth,
        decoder_intermediate_size=round(config.decoder_width * encoder.mlp_ratio),
        mask_ratio=config.mask_ratio,
        norm_pix_loss=config.norm_pixel_loss,
        # The eager implementation rounds attention weights to float32.
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    model = transformers.ViTMAEForPreTraining(torch_config).double()
    randomise(model, seed)
    return model


def ours_like(theirs: transformers.ViTMAEForPreTraining, config: MAEConfig) -> MAE:
    """Our model with the weights of the oracle."""
    model = nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(0)))
    state = transformers_keys(arrays(theirs.named_parameters()))
    load_into(model, state, mae_table(config, "transformers"))
    return model


@pytest.mark.parametrize("case", range(4))
def test_outputs_loss_and_gradients(case: int, parity_seed: int) -> None:
    """Both sides round in double precision only: gradients differ by at most 1e-11.

    The largest quotients belong to the bias of attention's keys, whose gradient is pure rounding.
    """
    config = draw_config(parity_seed, case)
    rng = np.random.default_rng([parity_seed, case, 1])
    encoder = config.encoder
    images = rng.normal(size=(3, *encoder.size, encoder.channels))
    noise = rng.random((3, encoder.patches))
    theirs = oracle(config, 10 * parity_seed + case)
    pixels = torch.tensor(images.transpose(0, 3, 1, 2))
    expected = theirs(pixels, noise=torch.tensor(noise))
    expected.loss.backward()
    with jax.enable_x64(True):
        model = ours_like(theirs, config)
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params: nnx.State) -> tuple[jax.Array, MAEOutput]:
            output = nnx.merge(graph, params, rest)(images, noise)
            return output.loss, output

        (value, output), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        exported = export_state(nnx.merge(graph, gradient, rest), mae_table(config, "transformers"))
        tokens = nnx.jit(MAE.encode)(model, images)
    assert relative(value, expected.loss) < 1e-12
    assert relative(output.prediction, expected.logits) < 1e-12
    np.testing.assert_array_equal(output.mask, expected.mask.numpy())
    np.testing.assert_array_equal(output.ids_restore, expected.ids_restore.numpy())
    errors = gradient_errors(exported, transformers_keys(gradients(theirs)))
    assert max(errors.values()) < 1e-8, errors
    theirs.config.mask_ratio = 0.0
    in_order = torch.arange(encoder.patches).double().expand(3, -1)
    with torch.no_grad():
        assert relative(tokens, theirs.vit(pixels, noise=in_order).last_hidden_state) < 1e-12


def test_transformers_reads_our_folder(tmp_path: Path, parity_seed: int) -> None:
    """from_pretrained predicts the same in float32, and the files it writes load bit for bit."""
    config = draw_config(parity_seed, 0)
    encoder = dataclasses.replace(config.encoder, dtype="float32", param_dtype="float32")
    config = dataclasses.replace(config, encoder=encoder)
    model = nnx.jit(lambda: MAE(config, rngs=nnx.Rngs(parity_seed)))()
    (tmp_path / "ours").mkdir()
    means = (0.5,) * encoder.channels
    write_published(tmp_path / "ours", exported(model, means, means))
    theirs, report = transformers.ViTMAEForPreTraining.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    rng = np.random.default_rng(parity_seed)
    images = rng.normal(size=(2, *encoder.size, encoder.channels)).astype(np.float32)
    noise = rng.random((2, encoder.patches)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2)), noise=torch.tensor(noise))
    assert relative(nnx.jit(MAE.__call__)(model, images, noise).prediction, expected.logits) < 1e-5

    theirs.save_pretrained(tmp_path / "theirs")
    again = nnx.eval_shape(lambda: MAE(config, rngs=nnx.Rngs(1)))
    state = transformers_keys(read_state(tmp_path / "theirs" / "model.safetensors"))
    table = mae_table(config, "transformers")
    load_into(again, state, table)
    for ours, back in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(again)), strict=True
    ):
        np.testing.assert_array_equal(ours, back)
