"""Holds Segment Anything and its automatic mask generator.

Source: arXiv:2304.02643.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
