"""Repeats gradient methods every so many training steps: GradMatch and GLISTER."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from hardset.checks import check_range
from selection.methods.gradients import GradMatch, greedy_validation
from selection.online.selector import ModelFunctions, OnlineState, Periodic
from selection.pool import Pool
from selection.selector import check_seed, generator
from selection.subset import Subset


@dataclass(frozen=True)
class GradMatchOnline(Periodic):
    """Runs GradMatch on the present last-layer gradients, every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
        method: the options of GradMatch.

    Memory: 8 n g bytes for gradients of length g, and that of GradMatch.

    Source: Killamsetty et al., GradMatch, ICML 2021, arXiv:2103.00123.
    """

    method: GradMatch = field(default_factory=GradMatch)

    name: ClassVar[str] = "gradmatch"

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one weighted subset."""
        check_seed(seed)
        gradients = model.value("gradients", np.arange(len(state)))
        pool = Pool.of(gradients=gradients, labels=state.labels)
        return self._done(state), (self.method.select(pool, self.budget, seed),)


@dataclass(frozen=True)
class GlisterOnline(Periodic):
    """Runs GLISTER at the present last layer, every so many steps.

    Args:
        budget: size of the subset.
        every: training steps from one selection to the next.
        step: eta > 0 of the look-ahead step.
        stochastic: whether each pick looks at a random (n/p) ln 100 of the examples only.

    Memory: 8 n (d + 4 C) + 24 v C bytes, d features, C classes, v validation examples.

    Source: Killamsetty et al., GLISTER, AAAI 2021, arXiv:2012.10630.
    """

    step: float = 0.1
    stochastic: bool = True

    name: ClassVar[str] = "glister"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("step", self.step, 0, np.inf, open_low=True, open_high=True)

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one subset."""
        check_seed(seed)
        if state.labels is None:
            raise ValueError("GLISTER needs the labels of the training examples: give init them")
        if model.layer is None or model.targets is None:
            raise ValueError("GLISTER needs the model functions layer, validation and targets")
        layer = model.layer(model.parameters)
        features = model.value("features", np.arange(len(state)))
        outside = model.value("validation")
        picks, gains = greedy_validation(
            features,
            layer.errors(features, state.labels),
            outside,
            model.targets,
            layer.logits(outside),
            self.budget,
            self.step,
            generator(seed, state.selections) if self.stochastic else None,
        )
        subset = Subset.of(picks, requested=self.budget, gains=gains, nested=not self.stochastic)
        return self._done(state), (subset,)
