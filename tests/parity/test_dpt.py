"""Our DPT against DPTForSemanticSegmentation of transformers: logits and gradients."""

from collections.abc import Mapping

import jax
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from numpy.typing import NDArray

from pretrain_jax.models.dpt import DPT, DPTConfig
from pretrain_jax.models.dpt.params import UNUSED, dpt_table
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.weights import export_state, load_into
from tests.parity.tensors import arrays, gradient_errors, gradients, randomise, relative

# Compiling takes nearly all of the time; the programs run once.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
READOUTS = ("project", "add", "ignore")


def dpt_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The state without what transformers stores and never uses."""
    return {key: value for key, value in state.items() if not key.startswith(UNUSED)}


def draw_config(seed: int, case: int) -> DPTConfig:
    """A small configuration; the cases differ in every size, odd grids included."""
    rng = np.random.default_rng([seed, case])
    patch, grid = int(rng.choice([2, 3])), 3 + case
    heads = int(rng.choice([1, 2]))
    depth = int(rng.integers(4, 6))
    encoder = ViTConfig(
        image_size=patch * grid,
        patch_size=patch,
        channels=int(rng.choice([1, 3])),
        width=4 * heads * int(rng.integers(1, 4)),
        depth=depth,
        heads=heads,
        mlp_ratio=2.0,
        layer_norm_eps=1e-12,
        positions="learned",
        dtype="float64",
        param_dtype="float64",
    )
    return DPTConfig(
        encoder,
        classes=int(rng.integers(2, 5)),
        hooks=tuple(int(hook) for hook in np.sort(rng.permutation(depth)[:4])),
        widths=tuple(int(width) for width in rng.integers(2, 9, 4)),
        fusion_width=int(rng.integers(3, 9)),
        readout=READOUTS[(seed + case) % 3],
    )


def oracle(config: DPTConfig, seed: int) -> transformers.DPTForSemanticSegmentation:
    """DPT with random weights and statistics."""
    encoder = config.encoder
    torch_config = transformers.DPTConfig(
        hidden_size=encoder.width,
        num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads,
        intermediate_size=encoder.hidden_width,
        layer_norm_eps=encoder.layer_norm_eps,
        image_size=encoder.image_size,
        patch_size=encoder.patch_size,
        num_channels=encoder.channels,
        backbone_out_indices=list(config.hooks),
        readout_type=config.readout,
        neck_hidden_sizes=list(config.widths),
        fusion_hidden_size=config.fusion_width,
        use_auxiliary_head=False,
        semantic_classifier_dropout=0.0,
        num_labels=config.classes,
    )
    torch_config._attn_implementation = "sdpa"
    torch.manual_seed(seed)
    model = transformers.DPTForSemanticSegmentation(torch_config).double()
    randomise(model, seed)
    norm = model.head.head[1]
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize(("case", "training"), [(0, True), (1, False)])
def test_logits_and_gradients(case: int, training: bool, parity_seed: int) -> None:
    """Batch norm with the batch's statistics and with its own."""
    config = draw_config(parity_seed, case)
    rng = np.random.default_rng([parity_seed, case, 1])
    encoder = config.encoder
    images = rng.normal(size=(3, *encoder.size, encoder.channels))
    theirs = oracle(config, 10 * parity_seed + case).train(training)
    state = dpt_keys(arrays(iter(theirs.state_dict().items())))
    state = {key: value.copy() for key, value in state.items()}
    expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2))).logits
    weights = rng.normal(size=expected.shape)
    (expected * torch.tensor(weights)).sum().backward()
    with jax.enable_x64(True):
        model = nnx.eval_shape(lambda: DPT(config, rngs=nnx.Rngs(0)))
        load_into(model, state, dpt_table(config))
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params: nnx.State, rest: nnx.State) -> tuple[jax.Array, jax.Array]:
            # Batch norm updates its statistics: they must belong to the inner trace.
            rest = jax.tree.map(lambda value: value, rest)
            logits = nnx.merge(graph, params, rest)(images, training=training)
            logits = logits.transpose(0, 3, 1, 2)
            return (logits * weights).sum(), logits

        step = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, rest)
        (_, logits), gradient = step.compile(compiler_options=QUICK)(params, rest)
        merged = nnx.merge(graph, gradient, rest)
        exported = export_state(merged, dpt_table(config))
        again = export_state(model, dpt_table(config))
    assert relative(logits, expected) < 1e-10
    errors = gradient_errors(exported, dpt_keys(gradients(theirs)))
    assert max(errors.values()) < 1e-6, errors
    assert again.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(again[key], value)
