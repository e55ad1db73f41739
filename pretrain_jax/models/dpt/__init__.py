"""Holds the dense prediction transformer, a segmentation head on a ViT.

Source: arXiv:2103.13413.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
