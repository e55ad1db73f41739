from .config import PipelineConfig as PipelineConfig
from .cost import (
    Estimate as Estimate,
)
from .cost import (
    estimate_cost as estimate_cost,
)
from .options import (
    Cell as Cell,
)
from .options import (
    ProbeOptions as ProbeOptions,
)
from .options import (
    ProposeOptions as ProposeOptions,
)
from .options import (
    ScoreOptions as ScoreOptions,
)
from .options import (
    Trials as Trials,
)
from .presets import (
    PIPELINES as PIPELINES,
)
from .presets import (
    pipeline_preset as pipeline_preset,
)
from .pretraining import pretrain as pretrain
from .probing import probe as probe
from .rates import measured_rates as measured_rates
from .runner import (
    PipelineResult as PipelineResult,
)
from .runner import (
    run_pipeline as run_pipeline,
)

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
