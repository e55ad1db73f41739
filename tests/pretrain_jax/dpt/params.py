"""Key table of dense prediction transformers in the layout of transformers."""

import dataclasses
from collections.abc import Mapping

from numpy.typing import NDArray

from pretrain_jax.models.dpt.modeling import DPTConfig
from pretrain_jax.models.vit.params import affine, vit_table
from pretrain_jax.weights import Entry, patch_embedding, same
from pretrain_jax.weights.mapping import convolution, transposed_convolution

# transformers stores a residual unit that the deepest stage never calls, and a counter.
UNUSED = ("neck.fusion_stage.layers.0.residual_layer1.", "head.head.1.num_batches_tracked")


def dpt_table(config: DPTConfig) -> list[Entry]:
    """The key table of DPTForSemanticSegmentation without its auxiliary head.

    Args:
        config: the model's configuration.
    """
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


def dpt_keys(state: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The state without what transformers stores and never uses."""
    return {key: value for key, value in state.items() if not key.startswith(UNUSED)}


def _convolution(path: str, key: str) -> list[Entry]:
    return [convolution(f"{path}.kernel", f"{key}.weight"), same(f"{path}.bias", f"{key}.bias")]


def _pointwise(path: str, key: str, channels: int) -> list[Entry]:
    """A linear layer stored as a convolution of one pixel."""
    return [
        patch_embedding(f"{path}.kernel", f"{key}.weight", 1, channels),
        same(f"{path}.bias", f"{key}.bias"),
    ]
