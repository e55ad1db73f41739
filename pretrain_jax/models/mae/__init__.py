"""Holds masked autoencoders.

Source: arXiv:2111.06377.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
