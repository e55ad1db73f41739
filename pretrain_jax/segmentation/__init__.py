"""Measures pre-trained models by segmentation.

It has data sets, heads, fine-tuning, scores, the leakage check and annotations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
