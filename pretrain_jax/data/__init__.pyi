"""What `pretrain_jax.data` offers: each name is imported when it is used."""

from .decode import BadPixelsError as BadPixelsError
from .decode import UnreadableImageError as UnreadableImageError
from .decode import read_pixels as read_pixels
from .loader import Batch as Batch
from .loader import Loader as Loader
from .loader import TooManySkippedError as TooManySkippedError
from .loader import decode_all as decode_all
from .sources import ImageSet as ImageSet
from .sources import find_images as find_images
from .sources import hold_out as hold_out
from .transforms import Crop as Crop
from .transforms import MixedSizesError as MixedSizesError

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
