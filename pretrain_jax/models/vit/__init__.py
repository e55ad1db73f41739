"""Holds vision transformers, and the blocks that other models share.

Source: arXiv:2010.11929.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
