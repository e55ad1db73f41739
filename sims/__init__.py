"""Finite-dimensional simulations of the perceptron problems that replica solves."""

from sims.experiment import run, run_many
from sims.kept_margins import StudentMargins, margins
from sims.maxmargin import MaxMarginResult, MaxMarginStatus, max_margin
from sims.userdata import UserSolution, solve_user_data
from sims.verify_theory import Verification, verify

__all__ = [
    "MaxMarginResult",
    "MaxMarginStatus",
    "StudentMargins",
    "UserSolution",
    "Verification",
    "margins",
    "max_margin",
    "run",
    "run_many",
    "solve_user_data",
    "verify",
]
