"""Configures contrastive learning."""

from dataclasses import dataclass, field

from hardset.checks import check_integer, check_range
from pretrain_jax.models.vit.config import ViTConfig


@dataclass(frozen=True)
class Augmentation:
    """Configures random crop, flip, colours and blur.

    The defaults are the paper's.

    Attributes:
        area: smallest and largest area of the crop over the image's.
        aspect: smallest and largest width over height of the crop.
        flip: probability of a reflection left to right.
        jitter: probability that colours change.
        brightness: factor drawn from 1 -+ this.
        contrast: factor on the distance from the mean luma, drawn from 1 -+ this.
        saturation: factor on the distance from the pixel's luma, drawn from 1 -+ this.
        hue: largest turn of the hue, in turns; saturation and hue need 3 channels.
        grey: probability that colours are dropped; without effect on 1 channel.
        blur: probability of a Gaussian blur.
        blur_sigma: smallest and largest standard deviation of the blur, pixels.
        blur_radius: where the blur's kernel ends, over the image's side.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_radius: float = 0.05

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "brightness", "contrast", "saturation", "grey", "blur"):
            check_range(name, getattr(self, name), 0.0, 1.0)
        check_range("hue", self.hue, 0.0, 0.5)
        check_range("area", self.area, 0.0, 1.0, open_low=True)
        check_range("aspect", self.aspect, 0.0, 100.0, open_low=True)
        check_range("blur_sigma", self.blur_sigma, 0.0, 1e3, open_low=True)
        check_range("blur_radius", self.blur_radius, 0.0, 1.0)
        for name in ("area", "aspect", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low}, {high}): the smaller number comes first")


@dataclass(frozen=True)
class SimCLRConfig:
    """Configures contrastive learning of an encoder.

    Source: arXiv:2002.05709.

    Attributes:
        encoder: with pool = "mean" or "cls" and no classifier.
        projector_hidden: width of the projector's hidden layer.
        projector_width: length of a projection.
        temperature: of the loss.
        augmentation: of the views.
    """

    encoder: ViTConfig = field(default_factory=lambda: ViTConfig(pool="mean"))
    projector_hidden: int = 2048
    projector_width: int = 128
    temperature: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_integer("projector_hidden", self.projector_hidden, 1, 1 << 20)
        check_integer("projector_width", self.projector_width, 1, 1 << 20)
        check_range("temperature", self.temperature, 0.0, 1e3, open_low=True)
        if self.encoder.pool is None or self.encoder.classes:
            raise ValueError("the encoder of SimCLR has pool = 'mean' or 'cls' and classes = 0")
