"""Images from folders, lists and videos to batches."""

from pretrain_jax.data.decode import BadPixelsError, UnreadableImageError, read_pixels
from pretrain_jax.data.loader import Batch, Loader, TooManySkippedError, decode_all
from pretrain_jax.data.sources import ImageSet, find_images, hold_out
from pretrain_jax.data.transforms import Crop, MixedSizesError

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
