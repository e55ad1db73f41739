"""Tests on the labels of a run how much of its images to keep.

What is tested is a linear student that reads the probe's features and predicts the labels. It says
nothing about pre-training, and it needs labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pretrain_jax.places import INDEX
from pretrain_jax.report.collect import RunFolder
from pretrain_jax.report.toy_model import FEATURES, WHOLE
from pretrain_jax.synthesis.labels import read_groups, read_labels
from pretrain_jax.synthesis.margins import read_features
from pretrain_jax.synthesis.tables import Table
from selection import Advice, recommend

# Methods of a pipeline keep the hardest, and none of them mixes these with others.
POLICIES = ("hard",)
UNTESTED = "without labels nothing can be tested"
SCOPE = (
    "What was tested is a linear student that predicts the labels from the probe's features, and "
    "that keeps the hardest by its own out-of-fold margin. Methods of the pipeline rank by "
    "reconstruction errors or other scores, and pre-training was not tested: there the ratio is a "
    "place to start"
)
Recommend = Callable[..., Advice]


@dataclass(frozen=True, eq=False)
class RunAdvice:
    """Holds how much of a run's images to keep, as tested on their labels.

    Attributes:
        advice: what `selection.recommend` says.
        images: how many it was tested on.
        groups: of how many videos, sequences and patients they are, where those are known; images
            of no known group count by themselves.
    """

    advice: Advice
    images: int
    groups: int | None = None

    @property
    def ratio(self) -> float:
        """Return the fraction to keep, to three digits."""
        return float(f"{self.advice.keep_fraction:.3g}")

    def sentences(self) -> list[str]:
        """Say in sentences without stops what to keep, and how far that was tested."""
        found = self.advice.sentence()
        first = found[0].upper() + found[1:]
        if self.advice.rows_needed is not None:
            first += f"; the first step down needs about {self.advice.rows_needed} images"
        together = (
            f"The {self.images} images are of {self.groups} videos, sequences, patients or single "
            "images: those of one stayed in one part of the cross validation, and counted as one"
        )
        warnings = [one.removesuffix(".") for one in self.advice.warnings]
        return [first, SCOPE, *([together] if self.groups is not None else []), *warnings]


def advice_of_run(
    run: RunFolder, *, seed: int = 0, explain: bool = True, recommend: Recommend = recommend
) -> RunAdvice | str:
    """Test on a run's labels how much of its images to keep.

    Where it cannot be tested it says why.

    Args:
        run: with an index and scores of whole images.
        seed: of the folds.
        explain: whether the theory's curve is computed beside.
        recommend: the test, called as `selection.recommend`.
    """
    for place in (INDEX, WHOLE):
        if place not in run.findings:
            return f"No advice: the stage {place} is not there, or not finished."
    if not (run.folder / WHOLE / FEATURES).is_file():
        return f"No advice: {WHOLE} holds no features of the probe ({FEATURES})."
    images = np.asarray(Table(run.folder / WHOLE).column("image"), np.int64)
    labels = read_labels(run.folder / INDEX, images)
    if isinstance(labels, str):
        return f"No advice: {labels}, and {UNTESTED}."
    features = read_features(run.folder / WHOLE)
    groups = read_groups(run.folder / INDEX, images)
    try:
        found = recommend(
            features, labels, groups=groups, policies=POLICIES, seed=seed, explain=explain
        )
    except ValueError as error:
        return f"No advice: {error}."
    return RunAdvice(found, len(images), None if groups is None else len(np.unique(groups)))
