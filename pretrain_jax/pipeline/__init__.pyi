"""What `pretrain_jax.pipeline` offers: each name is imported when it is used."""

from .config import PipelineConfig
from .cost import Estimate, estimate_cost
from .options import Cell, ProbeOptions, ProposeOptions, ScoreOptions, Trials
from .presets import PIPELINES, pipeline_preset
from .pretraining import pretrain
from .probing import probe
from .rates import measured_rates
from .runner import PipelineResult, run_pipeline

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
