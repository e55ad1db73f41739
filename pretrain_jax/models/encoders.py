"""Treats the encoders that heads can stand on as one kind.

Each has `hidden_states(images, blocks)`, a final `norm`, `with_image_size`, and a configuration
with `size`, `grid`, `patches`, `width`, `depth`, `leading` and `class_token`.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flax import nnx

from hardset.checks import check_choice
from pretrain_jax.models.dinov2 import DINOv2, DINOv2Config
from pretrain_jax.models.dinov3 import DINOv3, DINOv3Config
from pretrain_jax.models.vit import ViT, ViTConfig

Architecture = ViTConfig | DINOv2Config | DINOv3Config
AnyEncoder = ViT | DINOv2 | DINOv3

MODULES: Mapping[type, type] = MappingProxyType(
    {ViTConfig: ViT, DINOv2Config: DINOv2, DINOv3Config: DINOv3}
)
KINDS = MappingProxyType({one.__name__: one for one in MODULES})


def build_encoder(config: Architecture, rngs: nnx.Rngs) -> Any:
    """Return the encoder of a configuration, with random weights."""
    return MODULES[type(config)](config, rngs=rngs)


def tokens_alone(config: Architecture) -> Architecture:
    """Return the configuration of an encoder that gives all tokens.

    Pooling and classes are left out.
    """
    if isinstance(config, ViTConfig):
        return dataclasses.replace(config, pool=None, classes=0)
    return config


def encoder_to_json(config: Architecture) -> dict[str, Any]:
    """Convert a configuration to JSON-able values.

    Of a ViT they have no entry `kind`, as records of earlier versions have none.
    """
    fields = dataclasses.asdict(config)
    return fields if isinstance(config, ViTConfig) else {"kind": type(config).__name__} | fields


def encoder_from_json(values: Mapping[str, Any]) -> Architecture:
    """Return the configuration that `encoder_to_json` wrote.

    Raises:
        ValueError: an unknown kind or field.
    """
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    kind: Any = fields.pop("kind", ViTConfig.__name__)
    check_choice("encoder.kind", kind, KINDS)
    try:
        config: Architecture = KINDS[kind](**fields)
    except TypeError as error:
        raise ValueError(f"the encoder is not one of this version: {error}") from None
    return config
