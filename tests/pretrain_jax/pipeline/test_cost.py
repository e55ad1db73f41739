"""The cost model against published hours and hand-counted images."""

import dataclasses
from pathlib import Path

import pytest

from pretrain_jax.pipeline import PipelineConfig, estimate_cost, measured_rates, pipeline_preset
from pretrain_jax.pipeline.cost import Estimate, Rate, cost_table
from pretrain_jax.stages import open_stage
from pretrain_jax.stages.manifest import Manifest
from pretrain_jax.synthesis import Sam

REFERENCE = pipeline_preset("optidel_reference")


def estimates(config: PipelineConfig, images: int) -> dict[str, Estimate]:
    return {one.stage: one for one in estimate_cost(config, images)}


def test_masks_of_sam() -> None:
    """88,282 images at 5.6 to 8.4 s are 137 to 206 GPU-hours; 2,857,772 are 32.4 times that."""
    propose = dataclasses.replace(REFERENCE.propose, proposer="sam", sam=Sam(Path("sam.pth")))
    config = dataclasses.replace(REFERENCE, propose=propose)
    small = estimates(config, 88_282)["propose sam"]
    large = estimates(config, 2_857_772)["propose sam"]
    assert small.low is not None and small.high is not None and large.low is not None
    assert (round(small.low), round(small.high)) == (137, 206)
    assert large.low / small.low == pytest.approx(2_857_772 / 88_282)


def test_pretraining_at_the_published_rates() -> None:
    """63 runs of 100 epochs at 1,980 (A100) and 313 (A6000) images/s, whole batches of 16."""
    images = 5518 * 16
    matched = estimates(REFERENCE, images)["pretrain mae"]
    assert matched.items == 63 * 100 * images
    assert matched.low == pytest.approx(matched.items / 1980 / 3600)
    assert matched.high == pytest.approx(matched.items / 313 / 3600)
    # 100 epochs of each set: three of all, 15 of each ratio.
    paper = dataclasses.replace(REFERENCE, protocol="paper")
    share = 3 + 15 * (0.05 + 0.1 + 0.25 + 0.5)
    assert estimates(paper, images)["pretrain mae"].items == pytest.approx(share * 100 * images)


def test_a_given_probe_costs_nothing_and_halves_cost_as_much_as_the_whole() -> None:
    given = dataclasses.replace(REFERENCE.probe, checkpoint="mae.pth")
    halves = dataclasses.replace(REFERENCE.probe, halves=True)
    one = estimates(REFERENCE, 16_000)["probe"].items
    assert one == 100 * 16_000
    assert estimates(dataclasses.replace(REFERENCE, probe=given), 16_000)["probe"].items == 0
    assert estimates(dataclasses.replace(REFERENCE, probe=halves), 16_000)["probe"].items == 2 * one


def test_scores_take_a_forward_pass_a_mask() -> None:
    """A third of a trained image's operations; no rate is made up for what was never measured."""
    found = estimates(REFERENCE, 1000)
    assert found["score images"].items == 1000 * REFERENCE.score.masks
    low = found["score images"].low
    assert low is not None and low == pytest.approx(5000 / (3 * 1980) / 3600)
    assert found["propose saliency"].low is None
    assert "-" in cost_table(REFERENCE, [1000])


def test_measured_rates_replace_the_anchors(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "proposals" / "saliency", "propose", {}, None, {})
    assert not isinstance(stage, Manifest)
    stage.finish({"images": 50, "patches": 400}, seconds=25.0)
    run = tmp_path / "pretrained" / "mae" / "all-100" / "seed-0" / "run"
    run.mkdir(parents=True)
    lines = [f'{{"step": {k}, "loss": 1.0, "images_per_second": {100 * k}}}' for k in (1, 2, 3)]
    (run / "log.jsonl").write_text("\n".join(lines))
    rates = measured_rates(tmp_path)
    assert rates.keys() == {"propose saliency", "pretrain mae"}
    assert rates["propose saliency"] == Rate(0.5, 0.5, f"measured in {tmp_path}/proposals/saliency")
    assert rates["pretrain mae"].low == 1 / 200
    found = {one.stage: one for one in estimate_cost(REFERENCE, 7200, rates)}
    assert found["propose saliency"].low == found["propose saliency"].high == pytest.approx(1.0)
