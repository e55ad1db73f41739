from .augmentations import random_views as random_views
from .config import Augmentation as Augmentation
from .config import SimCLRConfig as SimCLRConfig
from .modeling import SimCLR as SimCLR
from .ntxent import (
    cached_value_and_grad as cached_value_and_grad,
)
from .ntxent import (
    nt_xent as nt_xent,
)
from .ntxent import (
    warn_of_few_negatives as warn_of_few_negatives,
)

__all__ = [
    "Augmentation",
    "SimCLR",
    "SimCLRConfig",
    "cached_value_and_grad",
    "nt_xent",
    "random_views",
    "warn_of_few_negatives",
]
