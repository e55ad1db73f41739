"""Exact solutions at infinite dimension, each certified by a second form of the equations."""

from replica.derivatives import Sensitivities, sensitivities
from replica.frontier import Frontier, frontier
from replica.in_sample import lossless_fraction
from replica.optimal import (
    OptimalFraction,
    SufficientFraction,
    optimal_fraction,
    sufficient_fraction,
)
from replica.phase_diagram import Phase, PhaseDiagram, phase_diagram
from replica.policy_ascent import OptimalPolicy, optimal_policy, weight_influence
from replica.required_data import RequiredData, required_data
from replica.search import SearchStatus
from replica.solution import ReplicaSolution, Status
from replica.solve import solve
from replica.window import OptimalWindow, optimal_window

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
