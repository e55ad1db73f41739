"""Readers of the folder layouts that segmentation and pre-training sets are published in."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
