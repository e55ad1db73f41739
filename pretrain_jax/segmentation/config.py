"""Configures fine-tuning by named presets."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.vit import VIT_PRESETS, ViTConfig
from pretrain_jax.train.config import Precision, RunOptions

HeadKind = Literal["dpt", "linear", "mlp"]
Mode = Literal["full", "frozen", "last", "scratch"]
LARGEST = 1 << 30


@dataclass(frozen=True)
class FinetuneConfig(RunOptions):
    """Configures fine-tuning on a segmentation set.

    The defaults are the reference preset.

    The reference is AdamW with a linear warmup and a polynomial schedule as MMSegmentation sets
    them for transformers; that the benchmark used these very numbers is unverified.

    Attributes:
        head: "dpt" (dense prediction transformer on four blocks), "linear" (one affine map of each
            patch token, the logits interpolated) or "mlp" (one hidden layer of GELUs).
        mode: "full" trains encoder and head, "frozen" the head alone, "last" the head with the
            encoder's last blocks and its last norm, "scratch" encoder and head from random weights.
        blocks: how many of the encoder's last blocks "last" trains.
        encoder: what is trained from scratch where no pre-trained run is given.
        image_size: side of the square crops; None takes the encoder's.
        widths: features of the four maps of "dpt".
        fusion_width: features of the fused maps of "dpt".
        head_doublings: how often the head of "dpt" doubles the resolution, see `DPTConfig`.
        hidden_width: of "mlp".
        steps: optimiser steps.
        batch_size: crops of a step.
        accumulation: parts of a batch that are computed one after the other; batch norm, which the
            head "dpt" has, takes the statistics of each part.
        learning_rate: of step k: learning_rate (1 - k / steps)^power min(1, (k + 1) / warmup).
        warmup_steps: of the linear rise.
        power: of the polynomial.
        weight_decay: of matrices; biases, norms and tokens have none.
        betas: of Adam.
        ema_decay: decay of the moving average of what is trained, which then is what is scored and
            kept; None keeps none.
        crop_scale: range of a crop's area as a share of the image's.
        flip: mirror every second crop, drawn at random.
        test_share: of the cases, where the set has no published split.
        split_seed: of the groups' order, where the set has no published split.
        checkpoint_every: steps between two checkpoints, which are deleted at the end.
        devices: number of devices over which a batch is divided; None takes all.
        bootstrap_draws: samples of the intervals, at least 2,000.
    """

    head: HeadKind = "dpt"
    mode: Mode = "full"
    blocks: int = 4
    encoder: ViTConfig = field(default_factory=lambda: VIT_PRESETS["vit_base"])
    image_size: int | None = None
    widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    fusion_width: int = 256
    head_doublings: int = 1
    hidden_width: int = 256
    steps: int = 20_000
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 6e-5
    warmup_steps: int = 1_500
    power: float = 1.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    ema_decay: float | None = None
    crop_scale: tuple[float, float] = (0.25, 1.0)
    flip: bool = True
    test_share: float = 0.2
    split_seed: int = 0
    bootstrap_draws: int = 2_000
    _: KW_ONLY
    precision: Precision = "float32"
    devices: int | None = 1
    log_every: int = 50
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 2

    @property
    def trained_blocks(self) -> int | None:
        """Return how many of the encoder's last blocks are trained.

        It is None where the whole encoder is, and 0 where nothing of it is.
        """
        return {"frozen": 0, "last": self.blocks}.get(self.mode)

    def check(self) -> None:
        """Check every field that does not depend on encoder and data.

        Raises:
            ValueError: names the field, its value and the valid range.
        """
        for name, choices in (("head", get_args(HeadKind)), ("mode", get_args(Mode))):
            check_choice(name, getattr(self, name), choices)
        self.check_run()
        for name in (
            "fusion_width",
            "hidden_width",
            "steps",
            "batch_size",
            "accumulation",
            "blocks",
        ):
            check_integer(name, getattr(self, name), 1, LARGEST)
        check_integer("head_doublings", self.head_doublings, 0, 4)
        check_integer("bootstrap_draws", self.bootstrap_draws, 2_000, 10**7)
        check_integer("warmup_steps", self.warmup_steps, 0, LARGEST)
        check_integer("split_seed", self.split_seed, 0, 2**32 - 1)
        if self.image_size is not None:
            check_integer("image_size", self.image_size, 1, 1 << 16)
        check_range("learning_rate", self.learning_rate, 0.0, 1e3, open_low=True)
        check_range("power", self.power, 0.0, 100.0)
        check_range("weight_decay", self.weight_decay, 0.0, 1e3)
        if self.ema_decay is not None:
            check_range("ema_decay", self.ema_decay, 0.0, 1.0, open_high=True)
        check_range("betas", self.betas, 0.0, 1.0, open_high=True)
        check_range("crop_scale", self.crop_scale, 0.0, 1.0, open_low=True)
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(f"crop_scale = {self.crop_scale} is not an ascending range")
        check_range("test_share", self.test_share, 0.0, 1.0, open_low=True, open_high=True)


FINETUNE_PRESETS: Mapping[str, FinetuneConfig] = MappingProxyType(
    {
        "reference": FinetuneConfig(),
        # Seconds on two cores at 64 pixels.
        "demo": FinetuneConfig(
            widths=(16, 16, 16, 16),
            fusion_width=8,
            head_doublings=0,  # patches of 8 pixels
            hidden_width=64,
            steps=200,
            learning_rate=1e-2,
            warmup_steps=20,
            checkpoint_every=200,
        ),
    }
)
