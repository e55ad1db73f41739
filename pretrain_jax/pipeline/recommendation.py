"""Stage `recommend`: the ratio that the theory recommends at the data's coordinates."""

import math
from collections.abc import Sequence
from pathlib import Path

from pretrain_jax.report.collect import collect
from pretrain_jax.report.toy_model import bridge_of_run
from pretrain_jax.stages import Manifest, digest, open_stage, read_manifest
from pretrain_jax.stages.manifest import MANIFEST

__all__ = ["recommend_ratio", "recommended_in"]

FOLDER = "recommended"
POLICY = "hard"


def recommend_ratio(run: Path, *, scores: Sequence[str], seed: int = 0) -> Manifest:
    """The best fraction of the hardest examples in the theory, to three digits.

    Args:
        run: folder of a pipeline; the stage lies in `run`/recommended.
        scores: places of the scores of whole images by the probe and by the two probes of disjoint
            halves, from which the coordinates are estimated.
        seed: of the bootstrap of their intervals.

    Returns:
        The manifest with the counts ratio, alpha_total and theta_deg.

    Raises:
        ValueError: the coordinates cannot be estimated, or the theory has no certified answer.
    """
    inputs = {place: digest(read_manifest(run / place, "score")) for place in scores}
    stage = open_stage(run / FOLDER, "recommend", {"policy": POLICY}, seed, inputs)
    if isinstance(stage, Manifest):
        return stage
    with stage:
        found = bridge_of_run(collect(run), seed=seed)
        if isinstance(found, str):
            raise _refusal(found.removesuffix("."))
        if found.recommendation is None:
            raise _refusal("margins by probes of disjoint halves are not positively correlated")
        advice = {one.policy: one.keep_fraction for one in found.recommendation.policies}
        if not math.isfinite(advice[POLICY]):
            raise _refusal(f"the theory has no certified fraction for keeping the {POLICY}est")
        counts = {
            "ratio": float(f"{advice[POLICY]:.3g}"),
            "alpha_total": found.coordinates.alpha_total,
            "theta_deg": math.degrees(found.coordinates.theta),
        }
        sentences = [found.recommendation.caveat, f"{found.recommendation.verdict.sentence()}."]
        return stage.finish(counts, sentences)


def recommended_in(run: Path) -> float | None:
    """The ratio that was recommended in a pipeline's folder; None before."""
    if not (run / FOLDER / MANIFEST).is_file():
        return None
    return float(read_manifest(run / FOLDER, "recommend").counts["ratio"])


def _refusal(why: str) -> ValueError:
    return ValueError(f"ratios: there is no 'recommended' one: {why}; give numbers")
