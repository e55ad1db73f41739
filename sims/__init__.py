"""Finite-dimensional simulations of the perceptron problems that replica solves."""

from sims.experiment import run
from sims.maxmargin import MaxMarginResult, MaxMarginStatus, max_margin

__all__ = ["MaxMarginResult", "MaxMarginStatus", "max_margin", "run"]
