"""Named pipelines."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from hardset.checks import check_choice
from pretrain_jax.models.mae import MAEConfig
from pretrain_jax.models.simclr import SimCLRConfig
from pretrain_jax.models.vit import ViTConfig
from pretrain_jax.pipeline.config import SHIPPED_SEGMENTATION, PipelineConfig
from pretrain_jax.pipeline.options import ProbeOptions, ProposeOptions, ScoreOptions, Trials
from pretrain_jax.segmentation.config import FINETUNE_PRESETS
from pretrain_jax.synthesis.proposers.random_crop import RandomCrop
from pretrain_jax.synthesis.proposers.saliency import Saliency
from pretrain_jax.train.config import DataOptions, OptimizerOptions, TrainConfig
from pretrain_jax.train.presets import preset

__all__ = ["PIPELINES", "pipeline_preset"]

# OptiDEL's experiment: MAE-ViT-Base/16, batch 16, 100 epochs; 5, 10, 25 and 50 % storage; DPT with
# 20,000 iterations. Its SimCLR runs are told without settings: those of the preset simclr_vit_base.
_REFERENCE = PipelineConfig(
    mae=Trials(preset("mae_vit_base_reference")),
    simclr=Trials(preset("simclr_vit_base"), seeds=()),
    out="runs/optidel",
    finetune=FINETUNE_PRESETS["reference"],
)

# Minutes on two cores: everything is there, but small.
_DATA = DataOptions(validation_images=64, workers=0)
_ENCODER = ViTConfig(image_size=64, patch_size=8, width=96, depth=4, heads=3)
_DEMO_MAE = TrainConfig(
    model=MAEConfig(_ENCODER, decoder_width=48, decoder_depth=2, decoder_heads=3),
    data=_DATA,
    optimizer=OptimizerOptions(learning_rate=1.5e-3, warmup_share=0.1),
    batch_size=16,
    steps=200,
    log_every=50,
    checkpoint_every=200,
    keep_checkpoints=1,
    validate_every=0,
)
_DEMO_SIMCLR = dataclasses.replace(
    _DEMO_MAE,
    model=SimCLRConfig(dataclasses.replace(_ENCODER, pool="mean"), 128, 32),
    data=dataclasses.replace(_DATA, crop="centre"),
    steps=50,
    log_every=25,
    checkpoint_every=50,
)
_DEMO = PipelineConfig(
    mae=Trials(
        _DEMO_MAE,
        methods=(
            *("all", "random", "meddel", "optidel-s", "optidel", "infomax"),
            # With random and optidel the ablation of selection and synthesis.
            *("hard-images@0.25", "random-patches@0.25"),
        ),
        ratios=(0.1, 0.25),
    ),
    simclr=Trials(_DEMO_SIMCLR, methods=("optidel",), ratios=(0.25,), seeds=(0,)),
    data=SHIPPED_SEGMENTATION,
    out="out/optidel-demo",
    probe=ProbeOptions(halves=True),
    propose=ProposeOptions(saliency=Saliency(), random_crop=RandomCrop()),
    score=ScoreOptions(masks=5),
    finetune=dataclasses.replace(FINETUNE_PRESETS["demo"], steps=60),
    evaluations=("linear-frozen", "dpt-frozen", "dpt-scratch"),
)

PIPELINES: Mapping[str, PipelineConfig] = MappingProxyType(
    {"optidel_reference": _REFERENCE, "optidel-demo": _DEMO}
)


def pipeline_preset(name: str) -> PipelineConfig:
    """The named pipeline; set `data` (and what else differs) with `dataclasses.replace`.

    Raises:
        ValueError: an unknown name.
    """
    check_choice("preset", name, PIPELINES)
    return PIPELINES[name]
