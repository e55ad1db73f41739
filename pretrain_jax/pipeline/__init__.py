"""The pipeline from images to the report: probe, pre-training, and the runner of all stages."""

from pretrain_jax.pipeline.config import PipelineConfig
from pretrain_jax.pipeline.cost import Estimate, estimate_cost
from pretrain_jax.pipeline.options import (
    Cell,
    ProbeOptions,
    ProposeOptions,
    ScoreOptions,
    Trials,
)
from pretrain_jax.pipeline.presets import PIPELINES, pipeline_preset
from pretrain_jax.pipeline.pretraining import pretrain
from pretrain_jax.pipeline.probe import probe
from pretrain_jax.pipeline.rates import measured_rates
from pretrain_jax.pipeline.runner import PipelineResult, run_pipeline

__all__ = [
    "PIPELINES",
    "Cell",
    "Estimate",
    "PipelineConfig",
    "PipelineResult",
    "ProbeOptions",
    "ProposeOptions",
    "ScoreOptions",
    "Trials",
    "estimate_cost",
    "measured_rates",
    "pipeline_preset",
    "pretrain",
    "probe",
    "run_pipeline",
]
