"""Configuration of dense prediction transformers."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hardset.checks import check_choice, check_integer, check_range
from pretrain_jax.models.vit import VIT_PRESETS, ViTConfig

__all__ = ["DPTConfig", "Readout"]

Readout = Literal["project", "add", "ignore"]
STAGES = 4


@dataclass(frozen=True)
class DPTConfig:
    """A dense prediction transformer (Ranftl et al. 2021, arXiv:2103.13413) for segmentation.

    Attributes:
        encoder: the ViT; with class token, without pooling.
        classes: number of classes.
        hooks: four blocks of the encoder whose tokens are used, from shallow to deep, counted
            from 0.
        widths: features of the four reassembled maps, which have 4, 2, 1 and 1/2 times the
            resolution of the patches.
        fusion_width: features of the fused maps.
        readout: what becomes of the class token: "project" concatenates it to each patch and
            maps both back to one token, "add" adds it, "ignore" drops it.
        dropout: share of the head's features that training sets to zero.
        head_doublings: how often the head doubles the resolution of its logits, which is 8 times
            that of the patches before; the published 1 fits patches of 16 pixels, 0 those of 8.

    Raises:
        ValueError: a field outside its range, with the value and the range.
    """

    encoder: ViTConfig = VIT_PRESETS["vit_base"]
    classes: int = 2
    hooks: tuple[int, ...] = (2, 5, 8, 11)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    fusion_width: int = 256
    readout: Readout = "project"
    dropout: float = 0.1
    head_doublings: int = 1

    def __post_init__(self) -> None:
        check_integer("classes", self.classes, 1, 1 << 16)
        check_integer("fusion_width", self.fusion_width, 1, 1 << 16)
        check_range("dropout", self.dropout, 0.0, 1.0, open_high=True)
        check_integer("head_doublings", self.head_doublings, 0, 4)
        for name in ("hooks", "widths"):
            if len(getattr(self, name)) != STAGES:
                raise ValueError(f"{name} = {getattr(self, name)} has not {STAGES} entries")
        for hook in self.hooks:
            check_integer("hooks", hook, 0, self.encoder.depth - 1)
        if sorted(set(self.hooks)) != list(self.hooks):
            raise ValueError(f"hooks = {self.hooks} do not go from shallow to deep")
        for width in self.widths:
            check_integer("widths", width, 1, 1 << 16)
        check_choice("readout", self.readout, get_args(Readout))
        if self.encoder.pool is not None or not self.encoder.class_token:
            raise ValueError("the encoder of a DPT has class_token = True and pool = None")

    @classmethod
    def on(cls, encoder: ViTConfig, **fields: Any) -> "DPTConfig":
        """The configuration on an encoder, its hooks at every quarter of the depth.

        Args:
            encoder: the ViT.
            **fields: further fields.
        """
        hooks = tuple((stage + 1) * encoder.depth // STAGES - 1 for stage in range(STAGES))
        encoder = dataclasses.replace(encoder, pool=None, classes=0)
        return cls(encoder=encoder, **({"hooks": hooks} | fields))
