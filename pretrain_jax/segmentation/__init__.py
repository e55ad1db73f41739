"""Segmentation after pre-training: data sets, heads, fine-tuning, scores, leakage, annotations."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
