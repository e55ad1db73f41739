"""Stage `leakage`: every case can be read, and no test frame is among the pre-training images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pretrain_jax.segmentation import FinetuneConfig, Frame, SegmentationSet, check_leakage, split
from pretrain_jax.segmentation.dataset import read_case
from pretrain_jax.segmentation.finetuning import dataset_digest
from pretrain_jax.segmentation.leakage import LEAST_CORRELATION, PERCEPTUAL_DISTANCE
from pretrain_jax.stages import Manifest, digest, open_stage
from pretrain_jax.synthesis import Images

__all__ = ["compare"]


def compare(
    index: str | Path,
    datasets: Sequence[SegmentationSet],
    out: str | Path,
    *,
    config: FinetuneConfig,
) -> Manifest:
    """Read every case and compare all images with the test cases, before anything is trained.

    Args:
        index: folder of stage `index`.
        datasets: segmentation data sets.
        out: the stage's folder.
        config: how they are split.

    Returns:
        The manifest, with the counts images and test_cases.

    Raises:
        ValueError: a case whose mask is damaged, of another size or of unknown labels.
        LeakageError: test frames are among the images, with their list.
    """
    images = Images(index)
    images.check_unchanged()
    inputs = {"index": digest(images.manifest)}
    inputs |= {f"dataset {number}": dataset_digest(one) for number, one in enumerate(datasets)}
    parameters = {
        "distance": PERCEPTUAL_DISTANCE,
        "least_correlation": LEAST_CORRELATION,
        "test_share": config.test_share,
        "split_seed": config.split_seed,
    }
    stage = open_stage(out, "leakage", parameters, None, inputs, locations={"index": index})
    if isinstance(stage, Manifest):
        return stage
    with stage:
        compared = cases = 0
        for dataset in datasets:
            for case in dataset.cases:
                read_case(dataset, case)
            _, test = split(dataset, test_share=config.test_share, seed=config.split_seed)
            compared = check_leakage(_frames(images), test)
            cases += len(test)
        return stage.finish({"images": compared, "test_cases": cases})


def _frames(images: Images) -> Iterator[Frame]:
    for batch in images.table.batches(["name", "frame", "group", "height"]):
        columns = (batch[name] for name in ("name", "frame", "group", "height"))
        for name, frame, group, height in zip(*columns, strict=True):
            if height > 0:
                shown = f"{name}" if frame < 0 else f"{name}#{frame}"
                yield Frame(shown, str(images.root / str(name)), int(frame), str(group))
