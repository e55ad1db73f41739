"""Exact solutions at infinite dimension, each certified by a second form of the equations."""

from .derivatives import Sensitivities as Sensitivities
from .derivatives import sensitivities as sensitivities
from .in_sample.solver import lossless_fraction as lossless_fraction
from .optimal.fraction import OptimalFraction as OptimalFraction
from .optimal.fraction import SufficientFraction as SufficientFraction
from .optimal.fraction import optimal_fraction as optimal_fraction
from .optimal.fraction import sufficient_fraction as sufficient_fraction
from .optimal.phase import Phase as Phase
from .optimal.policy import OptimalPolicy as OptimalPolicy
from .optimal.policy import optimal_policy as optimal_policy
from .optimal.policy import weight_influence as weight_influence
from .optimal.ridge import OptimalLam as OptimalLam
from .optimal.ridge import optimal_lam as optimal_lam
from .optimal.search import SearchStatus as SearchStatus
from .optimal.separability import SeparabilityThreshold as SeparabilityThreshold
from .optimal.separability import separability_threshold as separability_threshold
from .optimal.volumes import Frontier as Frontier
from .optimal.volumes import RequiredData as RequiredData
from .optimal.volumes import frontier as frontier
from .optimal.volumes import required_data as required_data
from .optimal.window import OptimalWindow as OptimalWindow
from .optimal.window import PhaseDiagram as PhaseDiagram
from .optimal.window import optimal_window as optimal_window
from .optimal.window import phase_diagram as phase_diagram
from .solution import ReplicaSolution as ReplicaSolution
from .solution import Status as Status
from .solver import solve as solve

__all__ = [
    "Frontier",
    "OptimalFraction",
    "OptimalLam",
    "OptimalPolicy",
    "OptimalWindow",
    "Phase",
    "PhaseDiagram",
    "ReplicaSolution",
    "RequiredData",
    "SearchStatus",
    "Sensitivities",
    "SeparabilityThreshold",
    "Status",
    "SufficientFraction",
    "frontier",
    "lossless_fraction",
    "optimal_fraction",
    "optimal_lam",
    "optimal_policy",
    "optimal_window",
    "phase_diagram",
    "required_data",
    "sensitivities",
    "separability_threshold",
    "solve",
    "sufficient_fraction",
    "weight_influence",
]
