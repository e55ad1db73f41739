"""Our vision transformer against ViT of transformers, and our bicubic positions against torch."""

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx

from pretrain_jax.models.vit import ViT, ViTConfig, resize_positions
from pretrain_jax.models.vit.params import transformers_keys, vit_table
from pretrain_jax.weights import export_state, load_into
from tests.parity.tensors import arrays, gradient_errors, gradients, randomise, relative


@pytest.mark.parametrize("case", range(3))
def test_logits_and_gradients(case: int, parity_seed: int) -> None:
    """A classifier with learned positions in double precision; loss = mean square of logits."""
    rng = np.random.default_rng([parity_seed, case, 7])
    patch, grid, heads = (int(rng.choice(c)) for c in ([2, 4, 7], [2, 3, 5], [1, 2, 3]))
    config = ViTConfig(
        image_size=patch * grid,
        patch_size=patch,
        channels=int(rng.choice([1, 3])),
        width=8 * heads,
        depth=int(rng.integers(1, 4)),
        heads=heads,
        layer_norm_eps=float(rng.choice([1e-12, 1e-6, 1e-3])),
        pool="cls",
        classes=int(rng.integers(2, 7)),
        positions="learned",
        dtype="float64",
        param_dtype="float64",
    )
    theirs = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=heads,
            intermediate_size=4 * config.width,
            layer_norm_eps=config.layer_norm_eps,
            image_size=patch * grid,
            patch_size=patch,
            num_channels=config.channels,
            num_labels=config.classes,
            attn_implementation="sdpa",
        )
    ).double()
    randomise(theirs, case)
    images = rng.normal(size=(3, *config.size, config.channels))
    logits = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).logits
    logits.square().mean().backward()
    with jax.enable_x64(True):
        model = nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0)))
        table = vit_table(config, "transformers")
        load_into(model, transformers_keys(arrays(theirs.named_parameters())), table)
        graph, params = nnx.split(model)

        def loss(params: nnx.State) -> tuple[jax.Array, jax.Array]:
            output = nnx.merge(graph, params)(images)
            return (output**2).mean(), output

        gradient, output = jax.jit(jax.grad(loss, has_aux=True))(params)
        exported = export_state(nnx.merge(graph, gradient), table)
    assert relative(output, logits) < 1e-12
    errors = gradient_errors(exported, transformers_keys(gradients(theirs)))
    assert max(errors.values()) < 1e-8, errors


@pytest.mark.parametrize("new_grid", [(7, 7), (3, 9), (2, 2)])
def test_positions_resize_as_in_torch(new_grid: tuple[int, int]) -> None:
    """Larger, smaller and rectangular grids against torch's bicubic interpolation."""
    table = np.random.default_rng(0).normal(size=(1 + 5 * 5, 8))
    patches = torch.tensor(table[1:].reshape(1, 5, 5, 8).transpose(0, 3, 1, 2))
    expected = torch.nn.functional.interpolate(
        patches, size=new_grid, mode="bicubic", align_corners=False
    )
    resized = resize_positions(table, (5, 5), new_grid)
    np.testing.assert_array_equal(resized[0], table[0])
    np.testing.assert_allclose(resized[1:], expected[0].flatten(1).T.numpy(), rtol=0, atol=1e-12)
