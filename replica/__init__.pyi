"""Exact solutions at infinite dimension, each certified by a second form of the equations."""

from .derivatives import (
    Sensitivities as Sensitivities,
)
from .derivatives import (
    sensitivities as sensitivities,
)
from .in_sample import lossless_fraction as lossless_fraction
from .optimal import (
    OptimalFraction as OptimalFraction,
)
from .optimal import (
    SufficientFraction as SufficientFraction,
)
from .optimal import (
    optimal_fraction as optimal_fraction,
)
from .optimal import (
    sufficient_fraction as sufficient_fraction,
)
from .pareto import (
    Frontier as Frontier,
)
from .pareto import (
    frontier as frontier,
)
from .phases import (
    Phase as Phase,
)
from .phases import (
    PhaseDiagram as PhaseDiagram,
)
from .phases import (
    phase_diagram as phase_diagram,
)
from .policy_ascent import (
    OptimalPolicy as OptimalPolicy,
)
from .policy_ascent import (
    optimal_policy as optimal_policy,
)
from .policy_ascent import (
    weight_influence as weight_influence,
)
from .search import SearchStatus as SearchStatus
from .solution import (
    ReplicaSolution as ReplicaSolution,
)
from .solution import (
    Status as Status,
)
from .solver import solve as solve
from .volumes import (
    RequiredData as RequiredData,
)
from .volumes import (
    required_data as required_data,
)
from .window import (
    OptimalWindow as OptimalWindow,
)
from .window import (
    optimal_window as optimal_window,
)

__all__ = [
    "Frontier",
    "OptimalFraction",
    "OptimalPolicy",
    "OptimalWindow",
    "Phase",
    "PhaseDiagram",
    "ReplicaSolution",
    "RequiredData",
    "SearchStatus",
    "Sensitivities",
    "Status",
    "SufficientFraction",
    "frontier",
    "lossless_fraction",
    "optimal_fraction",
    "optimal_policy",
    "optimal_window",
    "phase_diagram",
    "required_data",
    "sensitivities",
    "solve",
    "sufficient_fraction",
    "weight_influence",
]
