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
from pretrain_jax.synthesis.labels import count_grouped, read_labels
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
        grouped: how many of them are of a group (video, sequence, patient) with others.
    """

    advice: Advice
    images: int
    grouped: int = 0

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
        divided = (
            f"{self.grouped} of {self.images} images are of videos, sequences or patients with "
            "others, and these are divided among the parts that are compared: the errors are those "
            "on further images of the same ones, and too small for new ones"
        )
        warnings = [one.removesuffix(".") for one in self.advice.warnings]
        return [first, SCOPE, *([divided] if self.grouped else []), *warnings]


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
    try:
        found = recommend(features, labels, policies=POLICIES, seed=seed, explain=explain)
    except ValueError as error:
        return f"No advice: {error}."
    return RunAdvice(found, len(images), count_grouped(run.folder / INDEX, images))
