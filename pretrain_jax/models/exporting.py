"""Gives trained models the form in which transformers reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pretrain_jax.models.dinov2 import DINOv2, dinov2_table, transformers_dinov2_config
from pretrain_jax.models.dinov3 import DINOv3, dinov3_table, transformers_dinov3_config
from pretrain_jax.models.dpt import DPT
from pretrain_jax.models.dpt.params import export_dpt, transformers_dpt_config
from pretrain_jax.models.encoders import AnyEncoder, tokens_alone
from pretrain_jax.models.mae import MAE
from pretrain_jax.models.mae.params import mae_table, transformers_config
from pretrain_jax.models.vit import ViT
from pretrain_jax.models.vit.params import transformers_vit_config, vit_table
from pretrain_jax.weights import export_state
from pretrain_jax.weights.published import WEIGHTS, Published

BICUBIC = 3  # Pillow's number, which image processors of transformers have


def exported(
    model: MAE | DPT | AnyEncoder,
    mean: Sequence[float],
    std: Sequence[float],
    classes: Sequence[str] = (),
) -> Published:
    """Return what transformers needs to know of a model.

    Args:
        model: MAE becomes a ViTMAEForPreTraining, DPT a DPTForSemanticSegmentation, and an
            encoder a ViTModel (without pooler), Dinov2Model, Dinov2WithRegistersModel or
            DINOv3ViTModel.
        mean: of each channel, where the largest pixel is 1.
        std: of each channel.
        classes: names of a DPT's classes.

    Returns:
        Arrays, config.json and preprocessor_config.json.

    Raises:
        ValueError: a model for which transformers has no place; says why.
    """
    config: Any = model.config
    encoder = config.encoder if isinstance(model, MAE | DPT) else config
    if isinstance(model, MAE):
        state, entries = (
            export_state(model, mae_table(config, "transformers")),
            transformers_config(config),
        )
    elif isinstance(model, DPT):
        state, entries = export_dpt(model), transformers_dpt_config(config, classes)
    else:
        state, entries = _encoder(model)
    height, width = encoder.size
    processor = "DPTImageProcessor" if isinstance(model, DPT) else "ViTImageProcessor"
    preprocessing = {
        "image_processor_type": processor,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
    return Published(Path(WEIGHTS), state, entries, preprocessing)


def _encoder(model: AnyEncoder) -> tuple[dict[str, NDArray], dict[str, Any]]:
    if isinstance(model, DINOv2):
        table, entries = dinov2_table(model.config), transformers_dinov2_config(model.config)
    elif isinstance(model, DINOv3):
        table, entries = dinov3_table(model.config), transformers_dinov3_config(model.config)
    else:
        return _vit(model)
    return export_state(model, table), entries


def _vit(model: ViT) -> tuple[dict[str, NDArray], dict[str, Any]]:
    config: Any = tokens_alone(model.config)
    state = export_state(model, vit_table(config, "transformers"))
    entries = {
        "architectures": ["ViTModel"],
        "model_type": "vit",
        **transformers_vit_config(config),
        "dtype": config.param_dtype,
    }
    return {key.removeprefix("vit."): value for key, value in state.items()}, entries
