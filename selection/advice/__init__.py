"""Advises how much of a data set to keep, tested or by the toy model."""

from typing import Literal

# Commands need only these to start: what the advice is asked with, and what it says of itself.
AngleSource = Literal["auto", "overlap", "error"]
Metric = Literal["covariance", "isotropic"]
POLICIES = ("hard", "easy", "moderate", "random")
CAVEAT = (
    "The fraction is exact for normal features, a linear teacher without label noise and a "
    "max-margin student. On other data it is a heuristic: compare it with a measured curve."
)
HARD = (
    "hard is a small absolute margin abs(w.x) of a linear probe, whatever the label: the score "
    "margin, and not el2n, loss or aum, which put wrong labels first"
)
