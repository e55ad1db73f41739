"""Exact solutions at infinite dimension, each certified by a second form of the equations."""

from replica.solution import ReplicaSolution, Status
from replica.solve import solve

__all__ = ["ReplicaSolution", "Status", "solve"]
