"""Holds the encoder of DINOv2, with and without registers.

Sources: arXiv:2304.07193, arXiv:2309.16588.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
