"""Proposes the masks of Segment Anything as patches."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hardset.checks import check_integer
from hardset.listing import file_record
from pretrain_jax.models.sam.config import SAM_PRESETS, GeneratorConfig, SAMConfig
from pretrain_jax.synthesis.proposers import Find, Found, Pixels, admitted

if TYPE_CHECKING:
    from pretrain_jax.models.sam import SAM  # seconds that `--help` need not pay


WHERE = (
    "the proposer sam needs the weights of Segment Anything: put sam_vit_b_01ec64.pth, "
    "sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth (or transformers' model.safetensors) on disk and "
    "name them with --sam-weights (of a pipeline: --propose.sam.weights); without them use the "
    "proposer saliency"
)
POSITIONS = {
    "official": "image_encoder.pos_embed",
    "transformers": "vision_encoder.pos_embed",
}
# Settings that change memory and speed, not masks.
SPEED = ("points_per_batch", "chunk")


@dataclass(frozen=True)
class Sam:
    """Proposes boxes of the masks that SAM's automatic generator finds.

    They are ordered by predicted IoU.

    Attributes:
        weights: file of the published models (.pth) or of transformers (.safetensors).
        generator: settings; its `max_area` bounds masks and boxes.
        least_side: pixels of a box's shorter side; smaller ones are grown.

    Source: Kirillov et al. 2023, arXiv:2304.02643.
    """

    weights: Path | None = None
    generator: GeneratorConfig = field(
        default_factory=lambda: GeneratorConfig(min_area=0.0005, max_area=0.5)
    )
    least_side: int = 16

    name: ClassVar[str] = "sam"

    def __post_init__(self) -> None:
        check_integer("least_side", self.least_side, 1, 1 << 16)

    def parameters(self) -> dict[str, Any]:
        """Return the generator's settings and the least side."""
        settings = dataclasses.asdict(self.generator)
        for name in SPEED:
            del settings[name]
        return {"generator": settings, "least_side": self.least_side}

    def inputs(self) -> dict[str, str]:
        """Hash the weights.

        Raises:
            ValueError: there are none; says what to put where.
        """
        return {"weights": str(file_record(self._file())["sha256"])}

    def start(self, cache: Path) -> Find:
        """Load the model, and return the function that finds patches.

        Masks are kept in `cache`.
        """
        regions = self.regions(cache)

        def find(pixels: Pixels, rng: np.random.Generator) -> Found:
            return regions(pixels)[0]

        return find

    def regions(self, cache: Path) -> Callable[[Pixels], tuple[Found, NDArray[np.bool_]]]:
        """Find patches as `start` does, with each patch's mask.

        Masks have the shape (n, H, W), and are taken from `cache` where known.
        """
        from pretrain_jax.models.sam import MaskGenerator, MasksCache

        masks = MasksCache(MaskGenerator(load_sam(self._file()), self.generator), cache)

        def find(pixels: Pixels) -> tuple[Found, NDArray[np.bool_]]:
            found = masks(pixels)
            left, top, right, bottom = found.boxes.T.astype(np.int64)
            boxes = np.stack([top, left, bottom - top, right - left], axis=1)
            # Numbers stand in the place of areas, so that they tell which masks are left.
            numbered = Found(boxes, np.arange(len(boxes)), found.iou)
            size = pixels.shape[:2]
            kept = admitted(numbered, self.least_side, self.generator.max_area, size)
            own = found.masks[kept.areas]
            return kept._replace(areas=own.sum(axis=(1, 2), dtype=np.int64)), own

        return find

    def _file(self) -> Path:
        if self.weights is None:
            raise ValueError(WHERE)
        if not Path(self.weights).is_file():
            raise ValueError(f"SAM weights {self.weights} do not exist; {WHERE}")
        return Path(self.weights)


def load_sam(path: Path) -> "SAM":
    """Load the model of a checkpoint.

    Its size and layout are read off the file.

    Raises:
        WeightsError: a damaged file, or keys that fit no model.
        ValueError: weights of another size than the published ones.
    """
    from flax import nnx

    from pretrain_jax.models.sam import SAM, sam_keys, sam_table
    from pretrain_jax.weights import Layout, load_into, named_as, read_state

    layouts = {name: Layout([key]) for name, key in POSITIONS.items()}
    found = named_as(read_state(path), layouts)
    state, layout = sam_keys(found.state), found.layout
    for note in found.notes:
        print(f"{path}: {note}", file=sys.stderr)
    if POSITIONS[layout] not in state:
        raise ValueError(
            f"{path} is no checkpoint of Segment Anything: it holds neither "
            f"{' nor '.join(POSITIONS.values())}; {WHERE}"
        )
    shape = state[POSITIONS[layout]].shape
    config = next(
        (
            one
            for one in SAM_PRESETS.values()
            if shape == (1, one.grid_size, one.grid_size, one.width)
        ),
        None,
    )
    if config is None:
        known = ", ".join(f"{name} {one.width}" for name, one in SAM_PRESETS.items())
        raise ValueError(
            f"{path} has position embeddings of shape {shape}, of none of the sizes {known}"
        )
    variant: SAMConfig = dataclasses.replace(
        config, layer_norm="official" if layout == "official" else "hf"
    )
    # Every variable comes from the file: none is drawn first.
    model: SAM = nnx.eval_shape(lambda: SAM(variant, rngs=nnx.Rngs(0)))
    load_into(model, state, sam_table(variant, layout))
    return model
