"""Holds contrastive learning of image encoders.

Source: SimCLR, arXiv:2002.05709.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
