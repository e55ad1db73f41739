"""What `pretrain_jax.data` offers: each name is imported when it is used."""

from .decode import BadPixelsError, UnreadableImageError, read_pixels
from .loader import Batch, Loader, TooManySkippedError, decode_all
from .sources import ImageSet, find_images, hold_out
from .transforms import Crop, MixedSizesError

__all__ = [
    "BadPixelsError",
    "Batch",
    "Crop",
    "ImageSet",
    "Loader",
    "MixedSizesError",
    "TooManySkippedError",
    "UnreadableImageError",
    "decode_all",
    "find_images",
    "hold_out",
    "read_pixels",
]
