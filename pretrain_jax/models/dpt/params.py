"""Maps dense prediction transformers to the arrays of transformers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretrain_jax.models.dpt.modeling import DPT, SCALES, DPTConfig
from pretrain_jax.models.vit.config import ViTConfig
from pretrain_jax.models.vit.params import affine, transformers_vit_config, vit_table
from pretrain_jax.weights import Entry, export_state, patch_embedding, same
from pretrain_jax.weights.mapping import convolution, transposed_convolution

# transformers stores a residual unit that the deepest stage never calls, and a counter.
UNUSED = ("neck.fusion_stage.layers.0.residual_layer1.", "head.head.1.num_batches_tracked")


def dpt_table(config: DPTConfig) -> list[Entry]:
    """Return the key table of DPTForSemanticSegmentation without its auxiliary head.

    Args:
        config: the model's configuration, on a ViT with a class token.
    """
    assert isinstance(config.encoder, ViTConfig)
    table = [
        dataclasses.replace(
            entry,
            path=f"encoder.{entry.path}",
            keys=tuple(key.replace("vit.", "dpt.", 1) for key in entry.keys),
        )
        for entry in vit_table(config.encoder, "transformers")
    ]
    last = len(config.hooks) - 1
    for stage in range(len(config.widths)):
        ours, neck = f"reassemble.{stage}", "neck.reassemble_stage"
        theirs = f"{neck}.layers.{stage}"
        if config.readout == "project":
            table += affine(f"{ours}.token", f"{neck}.readout_projects.{stage}.0")
        table += _pointwise(f"{ours}.project", f"{theirs}.projection", config.encoder.width)
        resize = {0: transposed_convolution, 1: transposed_convolution, last: convolution}
        if stage in resize:
            table.append(resize[stage](f"{ours}.resize.kernel", f"{theirs}.resize.weight"))
            table.append(same(f"{ours}.resize.bias", f"{theirs}.resize.bias"))
        table.append(convolution(f"{ours}.to_fusion.kernel", f"neck.convs.{stage}.weight"))
        # transformers counts the fusion layers from the deepest.
        ours, theirs = f"fusion.{stage}", f"neck.fusion_stage.layers.{last - stage}"
        units = {"joint": "residual_layer2"} | (
            {} if stage == last else {"skip": "residual_layer1"}
        )
        for unit, name in units.items():
            for part in (1, 2):
                table += _convolution(
                    f"{ours}.{unit}.conv{part}", f"{theirs}.{name}.convolution{part}"
                )
        table += _convolution(f"{ours}.project", f"{theirs}.projection")
    return [
        *table,
        convolution("head.conv.kernel", "head.head.0.weight"),
        same("head.norm.scale", "head.head.1.weight"),
        same("head.norm.bias", "head.head.1.bias"),
        same("head.norm.mean", "head.head.1.running_mean"),
        same("head.norm.var", "head.head.1.running_var"),
        *_convolution("head.classes", "head.head.4"),
    ]


def check_exportable(config: DPTConfig) -> None:
    """Check that DPTForSemanticSegmentation has a place for a model.

    Raises:
        ValueError: it has not; says why.
    """
    encoder = config.encoder
    if not isinstance(encoder, ViTConfig) or not encoder.class_token:
        raise ValueError("transformers' DPT stands on a plain ViT with a class token")
    if config.head_doublings != 1:
        raise ValueError(
            f"transformers' DPT doubles its logits once, and head_doublings = "
            f"{config.head_doublings}"
        )


def export_dpt(model: DPT) -> dict[str, NDArray]:
    """Return all arrays of DPTForSemanticSegmentation, with those that it never uses.

    Raises:
        ValueError: see `check_exportable`.
    """
    check_exportable(model.config)
    width = model.config.fusion_width
    state = export_state(model, dpt_table(model.config))
    unit, counter = UNUSED
    for part in (1, 2):
        name = f"{unit}convolution{part}"
        state[f"{name}.weight"] = np.zeros((width, width, 3, 3), np.float32)
        state[f"{name}.bias"] = np.zeros(width, np.float32)
    return state | {counter: np.array(0, np.int64)}


def transformers_dpt_config(config: DPTConfig, classes: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of transformers' DPTForSemanticSegmentation.

    Args:
        config: the model's configuration.
        classes: names of the classes.

    Raises:
        ValueError: see `check_exportable`.
    """
    check_exportable(config)
    assert isinstance(config.encoder, ViTConfig)
    return {
        "architectures": ["DPTForSemanticSegmentation"],
        "model_type": "dpt",
        **transformers_vit_config(config.encoder),
        "dtype": config.encoder.param_dtype,
        "is_hybrid": False,
        "backbone_out_indices": list(config.hooks),
        "readout_type": config.readout,
        "reassemble_factors": list(SCALES),
        "neck_hidden_sizes": list(config.widths),
        "fusion_hidden_size": config.fusion_width,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": False,
        "use_auxiliary_head": False,
        "semantic_classifier_dropout": config.dropout,
        "semantic_loss_ignore_index": 255,
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }


def _convolution(path: str, key: str) -> list[Entry]:
    return [convolution(f"{path}.kernel", f"{key}.weight"), same(f"{path}.bias", f"{key}.bias")]


def _pointwise(path: str, key: str, channels: int) -> list[Entry]:
    """Return the entries of a linear layer stored as a convolution of one pixel."""
    return [
        patch_embedding(f"{path}.kernel", f"{key}.weight", 1, channels),
        same(f"{path}.bias", f"{key}.bias"),
    ]
