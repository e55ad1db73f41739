"""Holds the vision transformers of DINOv3.

Source: arXiv:2508.10104.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
