"""What `pretrain_jax.pipeline` offers: each name is imported when it is used."""

from .config import PIPELINES as PIPELINES
from .config import PipelineConfig as PipelineConfig
from .config import ProbeOptions as ProbeOptions
from .config import ProposeOptions as ProposeOptions
from .config import ScoreOptions as ScoreOptions
from .config import Trials as Trials
from .cost import Estimate as Estimate
from .cost import estimate_cost as estimate_cost
from .cost import measured_rates as measured_rates
from .runner import PipelineResult as PipelineResult
from .runner import run_pipeline as run_pipeline
from .training import pretrain as pretrain
from .training import probe as probe

__all__ = [
    "PIPELINES",
    "Estimate",
    "PipelineConfig",
    "PipelineResult",
    "ProbeOptions",
    "ProposeOptions",
    "ScoreOptions",
    "Trials",
    "estimate_cost",
    "measured_rates",
    "pretrain",
    "probe",
    "run_pipeline",
]
