"""Recognises which encoder a file of weights holds, and builds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from flax import nnx

from hardset.cli import one_line
from pretrain_jax.models.dinov2 import (
    DINOV2_LAYOUTS,
    DINOv2,
    DINOv2Config,
    dinov2_config,
    dinov2_keys,
    dinov2_table,
)
from pretrain_jax.models.dinov3 import (
    DINOV3_LAYOUTS,
    DINOv3,
    DINOv3Config,
    dinov3_config,
    dinov3_keys,
    dinov3_table,
    official_keys,
)
from pretrain_jax.models.sam import (
    SAM_LAYOUTS,
    ImageEncoder,
    SAMConfig,
    sam_encoder_config,
    sam_encoder_keys,
    sam_encoder_table,
)
from pretrain_jax.models.vit import ViT, ViTConfig
from pretrain_jax.models.vit.params import (
    VIT_LAYOUTS,
    transformers_keys,
    vit_config,
    vit_table,
)
from pretrain_jax.weights import Entry, Layout, Named, WeightsError, named_as
from pretrain_jax.weights.mapping import State
from pretrain_jax.weights.published import Published
from pretrain_jax.weights.torch_file import names


@dataclass(frozen=True)
class Naming:
    """Says how a library names the arrays of one kind of encoder.

    Attributes:
        kind: of encoder.
        smallest: configuration of one block, whose names tell the kind.
        table: configuration -> key table.
        read: (state, entries of config.json) -> configuration, and sentences.
        build: makes the model of a configuration.
        rename: brings a file's names into the form of the table.
        beyond: beginnings of names that belong to other parts than the encoder.
    """

    kind: str
    smallest: Any
    table: Callable[[Any], list[Entry]]
    read: Callable[[State, Mapping[str, Any]], tuple[Any, tuple[str, ...]]]
    build: Callable[..., nnx.Module]
    rename: Callable[[State], State] = dict
    beyond: tuple[str, ...] = ()

    def named(self, state: State, config: Any) -> Named:
        """Name a state by the table of a configuration, see `named_as`."""
        keys = [key for entry in self.table(config) for key in entry.keys]
        return named_as(state, {self.kind: Layout(keys, self.rename)})

    def fit(self, state: State) -> tuple[int, str]:
        """Say how well the names of a state fit, with a hint.

        Names that fit count for it, and missing ones against it.
        """
        named = self.named(state, self.smallest)
        keys = [key for entry in self.table(self.smallest) for key in entry.keys]
        return 2 * sum(key in named.state for key in keys) - len(keys), named.hint


def _vit(layout: str) -> Naming:
    return Naming(
        "vit",
        ViTConfig(depth=1),
        lambda config: vit_table(config, layout),
        lambda state, known: vit_config(state, layout, known),
        ViT,
        transformers_keys if layout == "transformers" else dict,
        ("decoder", "mask_token", "vit.pooler.", "vit.embeddings.mask_token"),
    )


def _dinov2(layout: str) -> Naming:
    return Naming(
        "dinov2",
        DINOv2Config(depth=1),
        lambda config: dinov2_table(config, layout),
        lambda state, known: dinov2_config(state, layout, known),
        DINOv2,
        dinov2_keys if layout == "transformers" else dict,
    )


def _dinov3(layout: str) -> Naming:
    return Naming(
        "dinov3",
        DINOv3Config(depth=1),
        lambda config: dinov3_table(config, layout),
        lambda state, known: dinov3_config(state, layout, known),
        DINOv3,
        {"transformers": dinov3_keys, "official": official_keys}.get(layout, dict),
        ("rope_embed.", "local_cls_norm."),
    )


def _sam(layout: str) -> Naming:
    return Naming(
        "sam",
        SAMConfig(depth=1, global_blocks=(0,)),
        lambda config: sam_encoder_table(config, layout),
        lambda state, known: sam_encoder_config(state, layout, known),
        ImageEncoder,
        sam_encoder_keys if layout == "official" else dict,
        ("prompt_encoder.", "mask_decoder.", "shared_image_embedding."),
    )


NAMINGS = (
    *map(_vit, VIT_LAYOUTS),
    *map(_dinov2, DINOV2_LAYOUTS),
    *map(_dinov3, DINOV3_LAYOUTS),
    *map(_sam, SAM_LAYOUTS),
)
# What transformers calls the kinds in config.json.
MODEL_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mae": ("vit_mae",),
        "vit": ("vit",),
        "dinov2": ("dinov2", "dinov2_with_registers"),
        "dinov3": ("dinov3_vit",),
        "sam": ("sam", "sam_vision_model"),
    }
)


@dataclass(frozen=True)
class Recognised:
    """Holds an encoder that was built from arrays.

    Attributes:
        model: with its parameters.
        kind: of encoder.
        notes: sentences on what was stripped, left out or assumed.
        decoder: whether arrays of MAE's decoder were among those left out.
    """

    model: nnx.Module
    kind: str
    notes: tuple[str, ...]
    decoder: bool


def recognise(published: Published, model: str) -> Recognised:
    """Build the encoder whose arrays a file holds.

    Args:
        published: the arrays, and what stands beside them.
        model: its kind, "auto" to tell it from names and shapes.

    Raises:
        WeightsError: no known encoder; missing, unexpected or misshapen arrays; a config.json that
            contradicts them.
    """
    wanted = "vit" if model == "mae" else model
    # Names alone: arrays of gigabytes need not be put together for each kind.
    bare = dict.fromkeys(published.state, np.zeros(1))
    fits = [(naming, *naming.fit(bare)) for naming in NAMINGS if wanted in ("auto", naming.kind)]
    naming, score, _ = max(fits, key=lambda fit: fit[1], default=(NAMINGS[0], 0, ""))
    if score <= 0:
        hint = next((f"; {fit[2]}" for fit in fits if fit[2]), "")
        raise WeightsError(
            f"holds no {'encoder' if model == 'auto' else model} that is known "
            f"({', '.join(MODEL_TYPES)}), judging by the names of its arrays: "
            f"{names(published.state, 3)}{hint}"
        )
    named = naming.named(published.state, naming.smallest)
    beyond = [key for key in named.state if key.startswith(naming.beyond)]
    state = {key: value for key, value in named.state.items() if not key.startswith(naming.beyond)}
    known = published.config
    config, assumed = naming.read(named.state, known)
    kind = naming.kind
    decoder = kind == "vit" and any(key.startswith("decoder") for key in beyond)
    if kind == "vit":
        # A plain ViT and the encoder of an MAE are one model; the kind tells how it was trained.
        told = {"vit": "vit", "vit_mae": "mae"}.get(str(known.get("model_type")))
        fixed = config.positions == "sincos" or decoder
        kind = model if model != "auto" else told or ("mae" if fixed else "vit")
    _check_type(known, kind)
    built = nnx.eval_shape(lambda: naming.build(config, rngs=nnx.Rngs(0)))
    found = Named(kind, state, (), naming.named(bare, config).hint)
    found.load_into(built, naming.table(config))
    left = [f"not taken, as it is no part of the encoder: {names(beyond)}"] if beyond else []
    return Recognised(built, kind, (*named.notes, *left, *assumed), decoder)


def _check_type(known: Mapping[str, Any], kind: str) -> None:
    told = known.get("model_type")
    others = [each for each, types in MODEL_TYPES.items() if told in types and each != kind]
    if others and {kind, *others} != {"vit", "mae"}:
        raise WeightsError(
            f"config.json beside it says model_type = {one_line(told)}, and its arrays are those "
            f"of {kind}"
        )
