from .pairs import read_pair as read_pair
from .pretraining import (
    PRETRAINING as PRETRAINING,
)
from .pretraining import (
    write_image_list as write_image_list,
)
from .published import PUBLISHED as PUBLISHED
from .read import (
    read_pretraining as read_pretraining,
)
from .read import (
    read_segmentation as read_segmentation,
)

__all__ = [
    "PRETRAINING",
    "PUBLISHED",
    "read_pair",
    "read_pretraining",
    "read_segmentation",
    "write_image_list",
]
