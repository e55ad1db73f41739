"""Finds the ratios that have a name instead of a number.

`recommended` is tested on labels, `toy-model` is the theory's number. Either is a stage.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from hardset.folder import MANIFEST, Input, Made, Manifest, Stage, Work, digest, read_manifest
from pretrain_jax.places import INDEX, RECOMMENDED, TOY_MODEL, Places
from pretrain_jax.report.advice import POLICIES, UNTESTED, Recommend, advice_of_run
from pretrain_jax.report.collect import collect
from pretrain_jax.report.toy_model import BY_HALVES, WHOLE, bridge_of_run
from pretrain_jax.synthesis.labels import why_no_labels
from selection import recommend

RECOMMEND = Stage("recommend", inputs=(INDEX, WHOLE), parameters=("policies",))
TOY = Stage("toy-model", inputs=(WHOLE, *BY_HALVES), parameters=("policy",))
POLICY = "hard"
TESTED, OF_THEORY = {"policies": " ".join(POLICIES)}, {"policy": POLICY}


def check_labelled(source: str | Path) -> None:
    """Check that a ratio can be recommended for a source's images.

    No image is read.

    Raises:
        ValueError: their labels are of no use; or see `why_no_labels`.
    """
    if why := why_no_labels(source):
        raise _refusal(RECOMMENDED, f"{why}, and {UNTESTED}")


def recommend_ratio(run: Path, *, seed: int = 0, recommend: Recommend = recommend) -> Manifest:
    """Recommend the smallest fraction that a test on the images' labels certifies.

    The stage lies in `run`/recommended.

    Args:
        run: folder of a pipeline with an index and scores of whole images.
        seed: of the test's folds.
        recommend: the test, called as `selection.recommend`.

    Returns:
        The manifest with the counts ratio (1 where no smaller one is certified), images, error_all,
        error_kept, tolerance and failure.

    Raises:
        ValueError: a stage is missing, or nothing can be tested.
    """

    def fill(_: Work) -> Made:
        found = advice_of_run(collect(run), seed=seed, explain=False, recommend=recommend)
        if isinstance(found, str):
            raise _refusal(RECOMMENDED, _reason(found))
        names = ("error_all", "error_kept", "tolerance", "failure")
        counts = {name: float(getattr(found.advice, name)) for name in names}
        notes = [f"{one}." for one in found.sentences()]
        return Made({"ratio": found.ratio, "images": found.images, **counts}, notes)

    inputs = _inputs(run, {INDEX: "index", WHOLE: "score"})
    return RECOMMEND.open(Places(run).recommended, TESTED, seed, inputs).run(fill)


def find_toy_ratio(run: Path, *, seed: int = 0) -> Manifest:
    """Find the fraction of the hardest that the theory calls best at a run's coordinates.

    It has three digits, and is tested on nothing. The stage lies in `run`/toy-model.

    Args:
        run: folder of a pipeline with scores of whole images by the probe and by the two probes of
            disjoint halves, from which the coordinates are estimated.
        seed: of the bootstrap of their intervals.

    Returns:
        The manifest with the counts ratio, alpha_total and theta_deg.

    Raises:
        ValueError: the coordinates cannot be estimated, or the theory has no certified answer.
    """

    def fill(_: Work) -> Made:
        found = bridge_of_run(collect(run), seed=seed)
        if isinstance(found, str):
            raise _refusal(TOY_MODEL, _reason(found))
        if found.recommendation is None:
            raise _refusal(
                TOY_MODEL, "margins by probes of disjoint halves are not positively correlated"
            )
        advice = {one.policy: one.keep_fraction for one in found.recommendation.policies}
        if not math.isfinite(advice[POLICY]):
            raise _refusal(
                TOY_MODEL, f"the theory has no certified fraction for keeping the {POLICY}est"
            )
        counts = {
            "ratio": float(f"{advice[POLICY]:.3g}"),
            "alpha_total": found.coordinates.alpha_total,
            "theta_deg": math.degrees(found.coordinates.theta),
        }
        sentences = [found.recommendation.caveat, f"{found.recommendation.verdict.sentence()}."]
        return Made(counts, sentences)

    inputs = _inputs(run, dict.fromkeys((WHOLE, *BY_HALVES), "score"))
    return TOY.open(Places(run).toy_model, OF_THEORY, seed, inputs).run(fill)


def known_ratios(run: Path) -> dict[str, float]:
    """Read the ratios that were found in a pipeline's folder, by their names.

    Version 0.2.1 left the theory's number in `recommended`, which does not count.
    """
    found = {}
    for name, stage, parameters in ((RECOMMENDED, RECOMMEND, TESTED), (TOY_MODEL, TOY, OF_THEORY)):
        if (run / name / MANIFEST).is_file():
            manifest = read_manifest(run / name, stage.name)
            if manifest.parameters == parameters:
                found[name] = float(manifest.counts["ratio"])
    return found


def _inputs(run: Path, stages: Mapping[str, str]) -> dict[str, Input]:
    """Read the digests of finished stages, given their names by their places."""
    return {
        place: Input(digest(read_manifest(run / place, name))) for place, name in stages.items()
    }


def _reason(sentence: str) -> str:
    """Leave the beginning and the stop of a report's sentence out."""
    return sentence.partition(": ")[2].removesuffix(".")


def _refusal(name: str, why: str) -> ValueError:
    other = (
        f" or {TOY_MODEL!r}, the theory's number, which is tested on nothing"
        if name == RECOMMENDED
        else ""
    )
    return ValueError(f"ratios: there is no {name!r} one: {why}; give numbers{other}")
